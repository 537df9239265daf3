{{/* Who may write what in a sandbox namespace, from files/guards.yaml. Takes a dict: root, guard. */}}
{{- define "bulkhead.admission.guard" -}}
{{- $root := .root -}}
{{- $guard := .guard -}}
{{- $platform := list -}}
{{- range $deed, $writers := $guard.writers }}
{{- if has "platform" $writers }}{{ $platform = append $platform $deed }}{{ end }}
{{- end -}}
{{ include "bulkhead.admission.policy" (dict "root" $root "name" $guard.name) }}
spec:
  failurePolicy: Fail
  matchConstraints:
    {{- include "bulkhead.admission.inSandboxes" . | nindent 4 }}
    resourceRules:
      {{- range $guard.rules }}
      - apiGroups: {{ .apiGroups | toJson }}
        apiVersions: ["*"]
        operations: {{ $guard.operations | toJson }}
        resources: {{ .resources | toJson }}
        scope: "*"
      {{- end }}
  matchConditions:
    {{- with $guard.matchConditions }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    # Who may leaves here: the API server evaluates every message of a policy whose conditions are met, also where nothing is refused.
    - name: by-nobody-who-may
      expression: |-
        !(
          {{- include "bulkhead.admission.who" . | nindent 10 }} in
          {{- include "bulkhead.admission.writersOf" (dict "root" $root "guard" $guard) | nindent 10 }} ||
        {{- if $platform }}
        ({{ include "bulkhead.admission.deed" . }} in ['{{ join "', '" $platform }}'] &&
          {{ include "bulkhead.admission.platform" $root }}) ||
        {{- end }}
        {{ include "bulkhead.admission.breakGlass" $root }})
  variables:
    - name: deed
      expression: {{ include "bulkhead.admission.deed" . | quote }}
    - name: writers
      expression: |-
        {{- include "bulkhead.admission.writersOf" (dict "root" $root "guard" $guard) | nindent 8 }}
  validations:
    - expression: "false"
      messageExpression: |-
        request.userInfo.username + ' may not ' + variables.deed + ' in the sandbox namespace ' + request.namespace +
        '; accepted are ' + (variables.writers + ['{{ if $platform }}whoever may update SandboxPolicies, {{ end }}members of {{ include "bulkhead.admission.groups" $root }}']).join(', ')
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" $root "name" $guard.name) }}
{{- end }}

{{/* What is done, as the keys of `writers` in files/guards.yaml say it: an expression of CEL. */}}
{{- define "bulkhead.admission.deed" -}}
(request.operation + ' ' + request.resource.resource + (request.?subResource.orValue('') == '' ? '' : '/' + request.subResource))
{{- end }}

{{/* Who does it, the group of nodes for each kubelet: an expression of CEL. */}}
{{- define "bulkhead.admission.who" -}}
(request.userInfo.username.startsWith('system:node:') && 'system:nodes' in request.userInfo.?groups.orValue([])
  ? 'system:nodes' : request.userInfo.username == 'system:nodes' ? '' : request.userInfo.username)
{{- end }}

{{/* Who may do it: an expression of CEL. Takes a dict: root, guard. */}}
{{- define "bulkhead.admission.writersOf" -}}
{{- $root := .root -}}
{
{{- range $deed, $writers := .guard.writers }}
  '{{ $deed }}': {{ include "bulkhead.admission.writers" (dict "root" $root "writers" (without $writers "platform")) }},
{{- end }}
}[?{{ include "bulkhead.admission.deed" . }}].orValue([])
{{- end }}

{{/* Writers as a list of CEL strings. Controllers without accounts of their own are all kube-controller-manager. */}}
{{- define "bulkhead.admission.writers" -}}
{{- $root := .root -}}
{{- $users := list -}}
{{- $controllers := list -}}
{{- range .writers }}
{{- if eq . "operator" }}{{ $users = append $users (include "bulkhead.admission.user" $root) }}
{{- else if eq . "scheduler" }}{{ $users = append $users "system:kube-scheduler" }}
{{- else if eq . "nodes" }}{{ $users = append $users "system:nodes" }}
{{- else }}{{ $controllers = append $controllers (printf "system:serviceaccount:kube-system:%s" .) }}
{{- end }}
{{- end }}
{{- if $controllers }}{{ $controllers = append $controllers "system:kube-controller-manager" }}{{ end -}}
[{{ range $i, $user := concat $users $controllers }}{{ if $i }}, {{ end }}'{{ $user }}'{{ end }}]
{{- end }}

{{/* The break-glass groups, for messages in strings of CEL. */}}
{{- define "bulkhead.admission.groups" -}}
{{ join ", " .Values.admission.breakGlassGroups | default "no group" | replace "\\" "\\\\" | replace "'" "\\'" }}
{{- end }}
