{{/* Name of the chart, or what replaces it. */}}
{{- define "bulkhead.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
Name of what is installed. A release called after the chart is not named twice. 52 characters leave room for what the
ReplicaSet and its pods append, and for the suffixes of the roles.
*/}}
{{- define "bulkhead.fullname" -}}
{{- $name := include "bulkhead.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The account the operator runs as. */}}
{{- define "bulkhead.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "bulkhead.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is required when serviceAccount.create is false: the operator needs an account with its roles" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Whether the operator may give agents rights in the API server: "true", or nothing. */}}
{{- define "bulkhead.grantsRights" -}}
{{- if and .Values.admission.enabled .Values.identity.kubernetesApi.enabled }}true{{ end }}
{{- end }}

{{/*
What the operator reads about issuers and sources of copies: what the values say, with the paths of what the chart mounts for them. An issuer's own setting of
these wins.
*/}}
{{- define "bulkhead.issuersFile" -}}
{{- $issuers := list }}
{{- $names := list }}
{{- range .Values.issuers }}
{{- if has .name $names }}{{ fail (printf "issuers: %s is there twice; accepted is one issuer of a name" .name) }}{{ end }}
{{- $names = append $names .name }}
{{- $paths := dict }}
{{- if eq .type "vault" }}{{ $paths = dict "tokenFile" (printf "/var/run/bulkhead/operator-tokens/%s" .name) }}{{ end }}
{{- if and (eq .type "postgres") .secret }}{{ $paths = dict "passwordFile" (printf "/etc/bulkhead/issuers/%s/password" .name) }}{{ end }}
{{- $issuers = append $issuers (dict "name" .name "type" .type "settings" (merge (deepCopy (.settings | default dict)) $paths)) }}
{{- end }}
{{- dict "issuers" $issuers "secretSources" .Values.secretSources | toYaml }}
{{- end }}

{{/* Whether there is any: "true", or nothing. */}}
{{- define "bulkhead.hasIssuers" -}}
{{- if or .Values.issuers .Values.secretSources }}true{{ end }}
{{- end }}

{{/* Whether the operator shows a token of its own to an issuer: "true" for each, or nothing. */}}
{{- define "bulkhead.showsTokens" -}}
{{- range .Values.issuers }}{{ if eq .type "vault" }}true{{ end }}{{ end }}
{{- end }}

{{/*
What of the signals there is, by name: `settings` as the operator reads them, with the paths of what the chart mounts, and what of the
values it takes to get there.
*/}}
{{- define "bulkhead.signalSources" -}}
{{- $sources := dict }}
{{- if .Values.signals.prometheus.url }}
{{- $settings := dict "url" .Values.signals.prometheus.url "timeoutSeconds" .Values.signals.prometheus.timeoutSeconds }}
{{- $mounts := dict "secret" .Values.signals.prometheus.secret "configMap" .Values.signals.prometheus.configMap }}
{{- $_ := set $sources "prometheus" (merge (dict "settings" $settings "egress" .Values.signals.prometheus.egress) $mounts) }}
{{- end }}
{{- if .Values.signals.alertmanager.enabled }}
{{- $settings := dict "port" 8083 "maxAgeSeconds" .Values.signals.alertmanager.maxAgeSeconds }}
{{- $_ := set $sources "alertmanager" (dict "settings" $settings "secret" .Values.signals.alertmanager.secret) }}
{{- end }}
{{- range $index, $one := .Values.signals.notifications }}
{{- $_ := set $sources (printf "notification-%d" $index) (merge (dict "settings" (pick $one "url")) (omit $one "url")) }}
{{- end }}
{{- range $name, $source := $sources }}
{{- if and $source.secret (hasPrefix "http://" ($source.settings.url | default "")) }}
{{- fail (printf "signals: %s would show its token to the network; accepted with a secret is a url of https://" $source.settings.url) }}
{{- end }}
{{- with $source.secret }}{{ $_ := set $source.settings "tokenFile" (printf "/etc/bulkhead/signals/%s/token" $name) }}{{ end }}
{{- with $source.configMap }}{{ $_ := set $source.settings "caFile" (printf "/etc/bulkhead/signals/%s/ca.crt" $name) }}{{ end }}
{{- end }}
{{- toYaml $sources }}
{{- end }}

{{/* What the operator reads about signals. */}}
{{- define "bulkhead.signalsFile" -}}
{{- $file := dict }}
{{- $notifications := list }}
{{- range $name, $source := include "bulkhead.signalSources" . | fromYaml }}
{{- if hasPrefix "notification-" $name }}{{ $notifications = append $notifications $source.settings }}
{{- else }}{{ $_ := set $file $name $source.settings }}
{{- end }}
{{- end }}
{{- if $notifications }}{{ $_ := set $file "notifications" $notifications }}{{ end }}
{{- toYaml $file }}
{{- end }}

{{/* Whether there is any signal: "true", or nothing. */}}
{{- define "bulkhead.hasSignals" -}}
{{- if include "bulkhead.signalSources" . | fromYaml }}true{{ end }}
{{- end }}

{{/* The image, by digest when one is given. */}}
{{- define "bulkhead.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* Labels that select the operator's pods; they never change over the life of a release. */}}
{{- define "bulkhead.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bulkhead.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of everything installed. */}}
{{- define "bulkhead.labels" -}}
{{ include "bulkhead.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: bulkhead
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}
