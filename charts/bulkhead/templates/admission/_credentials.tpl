{{/* What an AgentDeployment may ask for in spec.credentials, told when it is asked for. */}}
{{- define "bulkhead.admission.agent-credentials" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "agent-credentials") }}
spec:
  failurePolicy: Fail
  paramKind:
    apiVersion: bulkhead.dev/v1alpha1
    kind: SandboxPolicy
  {{- include "bulkhead.admission.ofAgents" (list "agentdeployments") | nindent 2 }}
  {{- include "bulkhead.admission.unlessSuspended" . | nindent 2 }}
  variables:
    - name: labels
      expression: namespaceObject.metadata.?labels.orValue({})
    - name: applies
      expression: |-
        {{- include "bulkhead.admission.applies" . | nindent 8 }}
    - name: passes
      expression: "!variables.applies"
    - name: before
      expression: "request.operation == 'UPDATE' ? dyn(oldObject.spec) : dyn({})"
    - name: asked
      expression: |-
        dyn(object.spec).?credentials.orValue([]).filter(c, !(c in variables.before.?credentials.orValue([])))
    - name: ceiling
      expression: dyn(params.spec).?credentials.orValue({})
    - name: longest
      expression: variables.ceiling.?maxTTLSeconds.orValue(3600)
    - name: lasting
      expression: |-
        variables.asked.filter(c, c.?ttlSeconds.orValue(900) > variables.longest)
          .map(c, c.name + ' ' + string(c.?ttlSeconds.orValue(900)) + ' s')
    # By issuer first: an issuer stands in a list once, its paths may be many.
    - name: vault
      expression: |-
        variables.asked.filter(c, has(c.vault) && !variables.ceiling.?vault.orValue([]).exists(v,
          v.issuer == c.vault.issuer && v.paths.exists(p,
            p == c.vault.path || (p.endsWith('/*') && c.vault.path.startsWith(p.substring(0, p.size() - 1))))))
          .map(c, c.name + ' path ' + c.vault.path + ' of issuer ' + c.vault.issuer)
    - name: postgres
      expression: |-
        variables.asked.filter(c, has(c.postgres) && !variables.ceiling.?postgres.orValue([]).exists(v,
          v.issuer == c.postgres.issuer && c.postgres.role in v.roles))
          .map(c, c.name + ' role ' + c.postgres.role + ' of issuer ' + c.postgres.issuer)
    - name: secrets
      expression: |-
        variables.asked.filter(c, has(c.secret) && !variables.ceiling.?secrets.orValue([]).exists(v,
          v.namespace == c.secret.namespace && v.name == c.secret.name &&
          (v.?keys.orValue([]).size() == 0 || c.secret.keys.all(k, k in v.keys))))
          .map(c, c.name + ' keys ' + c.secret.keys.join(', ') + ' of Secret ' + c.secret.namespace + '/' + c.secret.name)
    - name: custom
      expression: |-
        variables.asked.filter(c, has(c.custom) && !variables.ceiling.?custom.orValue([]).exists(v,
          v.issuer == c.custom.issuer && c.custom.?parameters.orValue({}).all(k,
            k in v.?parameters.orValue({}) && c.custom.parameters[k] in v.parameters[k])))
          .map(c, c.name + ' of issuer ' + c.custom.issuer)
  validations:
    - expression: variables.passes || variables.lasting.size() == 0
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (credentials.maxTTLSeconds) does not accept ' + variables.lasting.join(', ') +
        '; accepted are up to ' + string(variables.longest) + ' s'
      reason: Forbidden
    {{- include "bulkhead.admission.withinSources" (dict
        "field" "vault" "text" "v.paths.join(', ') + ' of issuer ' + v.issuer") | nindent 4 }}
    {{- include "bulkhead.admission.withinSources" (dict
        "field" "postgres" "text" "v.roles.join(', ') + ' of issuer ' + v.issuer") | nindent 4 }}
    {{- include "bulkhead.admission.withinSources" (dict
        "field" "secrets"
        "text" "(v.?keys.orValue([]).size() == 0 ? 'every key' : v.keys.join(', ')) + ' of ' + v.namespace + '/' + v.name") | nindent 4 }}
    {{- include "bulkhead.admission.withinSources" (dict
        "field" "custom"
        "text" "'of issuer ' + v.issuer + ' ' + v.?parameters.orValue({}).map(k, k + ': ' + v.parameters[k].join(' or ')).join(', ')")
      | nindent 4 }}
{{ include "bulkhead.admission.binding" (dict "root" . "name" "agent-credentials" "params" true) }}
{{- end }}

{{/*
A validation that nothing is asked of one kind of source that the SandboxPolicy does not name. Takes a dict: field (of the policy, and the
variable with what is outside of it), text (an expression about an entry `v` of that field).
*/}}
{{- define "bulkhead.admission.withinSources" -}}
- expression: variables.passes || variables.{{ .field }}.size() == 0
  messageExpression: |-
    'SandboxPolicy ' + params.metadata.name + ' (credentials.{{ .field }}) does not accept ' +
    {{ include "bulkhead.admission.short" (printf "variables.%s.join('; ')" .field) }} +
    '; accepted ' + (variables.ceiling.?{{ .field }}.orValue([]).size() == 0 ? 'is none' : 'are ' +
      {{ include "bulkhead.admission.short" (printf "variables.ceiling.%s.map(v, %s).join('; ')" .field .text) }})
  reason: Forbidden
{{- end }}
