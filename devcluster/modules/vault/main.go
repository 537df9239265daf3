// A Vault server that keeps everything in memory, with those engines and auth methods that tests use: the whole of
// Vault does not build from its module, and most of it are clients of clouds. It starts uninitialized and sealed, as
// every Vault does; who starts it does the rest by its API.
package main

import (
	"flag"
	"log"
	"maps"
	"net/http"
	"slices"

	"github.com/hashicorp/go-hclog"
	kubeauth "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/builtin/logical/database"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/plugins/database/postgresql"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// databases is what the database engine finds its plugins in: they are compiled in.
type databases map[string]func() (any, error)

func (d databases) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	factory, known := d[name]
	return factory, known && kind == consts.PluginTypeDatabase
}

func (d databases) Contains(name string, kind consts.PluginType) bool {
	_, known := d.Get(name, kind)
	return known
}

func (d databases) Keys(kind consts.PluginType) []string {
	if kind != consts.PluginTypeDatabase {
		return nil
	}
	return slices.Collect(maps.Keys(d))
}

func (d databases) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, d.Contains(name, kind)
}

func (d databases) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func main() {
	address := flag.String("address", "127.0.0.1:8200", "where to listen")
	certificate := flag.String("tls-cert", "", "PEM file")
	key := flag.String("tls-key", "", "PEM file")
	flag.Parse()

	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Info})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		log.Fatal(err)
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             logger,
		DisableMlock:       true,
		BuiltinRegistry:    databases{"postgresql-database-plugin": postgresql.New},
		LogicalBackends:    map[string]logical.Factory{"database": database.Factory},
		CredentialBackends: map[string]logical.Factory{"kubernetes": kubeauth.Factory},
	})
	if err != nil {
		log.Fatal(err)
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})
	log.Fatal(http.ListenAndServeTLS(*address, *certificate, *key, handler))
}
