{{/*
Admission policies are written as the API server stores them, its defaults included, so that the operator can compare the two.
Each is rendered twice: as an object, and into the ConfigMap that the operator compares with.
*/}}

{{/* What stands before a policy's spec. Takes a dict: root, name. */}}
{{- define "bulkhead.admission.policy" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ include "bulkhead.fullname" .root }}-{{ .name }}
  labels:
    {{- include "bulkhead.labels" .root | nindent 4 }}
{{- end }}

{{/* A binding that puts a policy in force. Takes a dict: root, name, params (whether SandboxPolicies are its parameters). */}}
{{- define "bulkhead.admission.binding" -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "bulkhead.fullname" .root }}-{{ .name }}
  labels:
    {{- include "bulkhead.labels" .root | nindent 4 }}
spec:
  policyName: {{ include "bulkhead.fullname" .root }}-{{ .name }}
  {{- if .params }}
  # Without any SandboxPolicy there is nothing to compare with, and no agent runs.
  paramRef:
    selector: {}
    parameterNotFoundAction: Allow
  {{- end }}
  validationActions: [Deny]
{{- end }}

{{/* The namespaces that policies are about, and the API server's defaults beside them. */}}
{{- define "bulkhead.admission.inSandboxes" -}}
matchPolicy: Equivalent
objectSelector: {}
namespaceSelector:
  matchLabels:
    bulkhead.dev/sandbox: "true"
{{- end }}

{{/* Who the operator is to the API server. */}}
{{- define "bulkhead.admission.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "bulkhead.serviceAccountName" . }}
{{- end }}

{{/* matchConditions of policies about what the operator's own user writes. */}}
{{- define "bulkhead.admission.byOperator" -}}
matchConditions:
  - name: the-operator
    expression: request.userInfo.username == '{{ include "bulkhead.admission.user" . }}'
{{- end }}

{{/* Text as a string of CEL. */}}
{{- define "bulkhead.admission.text" -}}
'{{ . | replace "\\" "\\\\" | replace "'" "\\'" }}'
{{- end }}

{{/* The beginning of a text: the API server drops a message of more than 5 kB whole. Takes an expression of CEL. */}}
{{- define "bulkhead.admission.short" -}}
[{{ . }}].map(s, s.size() <= 1500 ? s : s.substring(0, 1500) + ' …')[0]
{{- end }}

{{/* A list of strings of CEL. */}}
{{- define "bulkhead.admission.texts" -}}
[{{ range $i, $text := . }}{{ if $i }}, {{ end }}{{ include "bulkhead.admission.text" $text }}{{ end }}]
{{- end }}

{{/* Whether the request comes from a break-glass group: an expression of CEL. */}}
{{- define "bulkhead.admission.breakGlass" -}}
request.userInfo.?groups.orValue([]).exists(g, g in [
{{- range $i, $group := .Values.admission.breakGlassGroups }}
{{- if $i }}, {{ end }}{{ include "bulkhead.admission.text" $group }}
{{- end }}])
{{- end }}

{{/* Whether the request comes from a platform engineer: an expression of CEL. */}}
{{- define "bulkhead.admission.platform" -}}
authorizer.group('bulkhead.dev').resource('sandboxpolicies').check('update').allowed()
{{- end }}

{{/* Whether the SandboxPolicy `params` selects the namespace (metav1.LabelSelector): an expression of CEL. */}}
{{- define "bulkhead.admission.applies" -}}
params.spec.?namespaceSelector.?matchLabels.orValue({}).all(k,
  k in variables.labels && variables.labels[k] == params.spec.namespaceSelector.matchLabels[k]) &&
params.spec.?namespaceSelector.?matchExpressions.orValue([]).all(e,
  e.operator == 'In' ? e.key in variables.labels && variables.labels[e.key] in e.values :
  e.operator == 'NotIn' ? !(e.key in variables.labels && variables.labels[e.key] in e.values) :
  e.operator == 'Exists' ? e.key in variables.labels :
  !(e.key in variables.labels))
{{- end }}

{{/*
Two networks overlap exactly when one contains the other. CEL has no union of networks, so what is to stay closed must lie inside of one
exception. Expressions about a block `b` (see parsed) and networks: first those that overlap are found, and only for them are the
exceptions parsed, once. In any other order 32 blocks of 64 exceptions against 64 networks cost more than an expression may.
*/}}
{{- define "bulkhead.admission.overlaps" -}}
(b.cidr.containsCIDR(n) || n.containsCIDR(b.cidr))
{{- end }}

{{/*
The networks of a list that the block `b` reaches, as text; empty if it reaches none. Takes a dict: networks (an expression that gives a
list of parsed networks), more (an expression that is appended about the network `n`, if any).
*/}}
{{- define "bulkhead.admission.reached" -}}
[{{ .networks }}.filter(n, {{ include "bulkhead.admission.overlaps" . }})].filter(o, o.size() > 0)
  .map(o, [b.except.filter(e, isCIDR(e)).map(e, cidr(e))].map(x,
    o.filter(n, !x.exists(e, e.containsCIDR(n))).map(n, string(b.cidr) + ' reaches ' + string(n){{ with .more }} + {{ . }}{{ end }})
      .join(', '))[0])
  .join(', ')
{{- end }}

{{/* A block, parsed, of an object with `cidr` and `except` called `p`: an expression of CEL. */}}
{{- define "bulkhead.admission.parsed" -}}
{'cidr': dyn(cidr(p.cidr)), 'except': dyn(p.?except.orValue([]))}
{{- end }}

{{/* The networks that the SandboxPolicy `params` names as production, its canaries among them: an expression of CEL. */}}
{{- define "bulkhead.admission.production" -}}
(params.spec.?production.?cidrs.orValue([]) + params.spec.?production.?canaries.orValue([])
  .map(c, c.address + (c.address.contains(':') ? '/128' : '/32'))).map(n, cidr(n))
{{- end }}

{{/* A list of the floor as a list of CEL, its networks parsed. Takes a dict: root, list (a list of files/floor.yaml). */}}
{{- define "bulkhead.admission.floor" -}}
{{- $floor := .root.Files.Get "files/floor.yaml" | fromYaml -}}
[
{{- range $i, $entry := get $floor .list }}
  {{- if $i }},{{ end }}
  cidr('{{ $entry.cidr }}')
{{- end }}
]
{{- end }}

{{/* What is in the networks of such a list, as a map of CEL. Takes the same. */}}
{{- define "bulkhead.admission.what" -}}
{{- $floor := .root.Files.Get "files/floor.yaml" | fromYaml -}}
{
{{- range get $floor .list }}
  '{{ .cidr }}': {{ include "bulkhead.admission.text" .what }},
{{- end }}
}
{{- end }}

{{/* Every policy with its binding, as a YAML stream. */}}
{{- define "bulkhead.admission.all" -}}
{{- range $name, $text := include "bulkhead.admission.files" . | fromYaml }}
---
{{ $text }}
{{- end }}
{{- end }}

{{/* Every policy with its binding, by the name of the file that the operator finds it in. */}}
{{- define "bulkhead.admission.files" -}}
{{- $root := . -}}
{{- range $guard := .Files.Get "files/guards.yaml" | fromYamlArray }}
{{ $guard.name }}.yaml: {{ include "bulkhead.admission.guard" (dict "root" $root "guard" $guard) | toJson }}
{{- end }}
{{- range $name := list "namespaces" "services" "services-elsewhere" "pod-labels" "evictions" "orphans" "network-floor" "network-production" "agent-floor" "agent-network" "agent-workload" "agent-scale" "agent-rights" "agent-identity" "agent-credentials" "operator" "operator-deletions" "operator-elsewhere" "operator-roles" "operator-role-ceilings" "operator-networks" "operator-workloads" "killswitches" "agent-switches" "agent-accounts" "records" "marks" }}
{{ $name }}.yaml: {{ include (printf "bulkhead.admission.%s" $name) $root | toJson }}
{{- end }}
{{- end }}
