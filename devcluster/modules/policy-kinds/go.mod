module bulkhead.dev/devcluster/policy-kinds

go 1.26.0

require (
	github.com/cilium/cilium v1.15.19
	sigs.k8s.io/network-policy-api v0.2.0
)
