{{/*
Rules of RBAC, read as the API server reads them (plugin/pkg/auth/authorizer/rbac): `*` is every group, resource or verb, and
before a slash every resource that has the subresource; no names are every name. Nothing else is a wildcard. Expressions about the
variable `asked`, a list of rules.
*/}}

{{/* What no agent may do, whatever a policy says: variables `closed` and `refused`, a sentence for each entry that is hit. */}}
{{- define "bulkhead.admission.closedRights" -}}
{{- $access := .Files.Get "files/access.yaml" | fromYaml -}}
- name: verbs
  expression: {{ include "bulkhead.admission.texts" $access.verbs | quote }}
# Texts are in lists, because the values of a map of CEL have one type.
- name: closed
  expression: |-
    [
    {{- range $i, $entry := $access.closed }}
      {{- if $i }},{{ end }}
      {'groups': {{ include "bulkhead.admission.texts" .groups }},
       'resources': {{ include "bulkhead.admission.texts" .resources }},
       'verbs': {{ include "bulkhead.admission.texts" .verbs }},
       'why': [{{ include "bulkhead.admission.text" .why }}],
       'accepted': [{{ include "bulkhead.admission.text" .accepted }}]}
    {{- end }}
    ]
- name: refused
  expression: |-
    variables.closed.filter(f, variables.asked.exists(r,
      f.groups.exists(g, g in r.apiGroups) && f.verbs.exists(v, v in r.verbs) &&
      ('*' in r.resources || '*' in f.resources || f.resources.exists(x, x in r.resources ||
        (x.contains('/') && '*' + x.substring(x.indexOf('/')) in r.resources)))))
    .map(f, 'no agent gets rights to ' + f.verbs.join(', ') + ' ' + ('*' in f.resources ? 'anything' : f.resources.join(', ')) +
      ' of ' + f.groups.map(g, g == '' ? 'the core group' : g).join(', ') + ': ' + f.why[0] + '; accepted is ' + f.accepted[0])
{{- end }}

{{/* A regular expression of the audiences that API servers take as their own, whichever way they are written. */}}
{{- define "bulkhead.admission.apiAudiences" -}}
{{- $access := .Files.Get "files/access.yaml" | fromYaml -}}
^(.*://)?({{ join "|" $access.audiences | replace "." "[.]" }})([./]|:443|:6443)*$
{{- end }}

{{/* What is refused of the rules whatever a policy says, as validations. Takes an expression that lets the object pass. */}}
{{- define "bulkhead.admission.withinFloorOfRights" -}}
- expression: |-
    {{ . }} || variables.asked.all(r, !('*' in r.apiGroups))
  message: >-
    '*' among the apiGroups of an agent stands for rbac.authorization.k8s.io and bulkhead.dev too; accepted are groups by name, '' for
    the core group
  reason: Forbidden
- expression: |-
    {{ . }} || variables.asked.all(r, r.verbs.all(v, v in variables.verbs))
  messageExpression: |-
    'accepted as verbs of an agent are ' + variables.verbs.join(', ') +
    '; every other one, and so \'*\', is a right of its own kind, such as escalate, bind and impersonate'
  reason: Forbidden
- expression: |-
    {{ . }} || variables.refused.size() == 0
  messageExpression: |-
    {{ include "bulkhead.admission.short" "variables.refused.join('; ')" }}
  reason: Forbidden
{{- end }}

{{/*
What of the rules lies outside of the variable `offered`, the rules of a SandboxPolicy, as variables. A rule that lies inside of one
offered rule whole is soon found; of the others each verb on each resource of each group, by each name, must lie inside of one.
*/}}
{{- define "bulkhead.admission.missingRights" -}}
- name: scattered
  expression: |-
    variables.asked.filter(r, !variables.offered.exists(c,
      ('*' in c.verbs || r.verbs.all(v, v in c.verbs)) &&
      ('*' in c.apiGroups || r.apiGroups.all(g, g in c.apiGroups)) &&
      (c.?resourceNames.orValue([]).size() == 0 ||
        (r.?resourceNames.orValue([]).size() > 0 && r.resourceNames.all(n, n in c.resourceNames))) &&
      ('*' in c.resources || r.resources.all(x, {{ include "bulkhead.admission.offersResource" . }}))))
- name: missing
  expression: |-
    variables.scattered.map(r, r.resources.map(x,
      [variables.offered.filter(c, '*' in c.resources || {{ include "bulkhead.admission.offersResource" . }})].map(some,
        r.verbs.filter(v, !r.apiGroups.all(g,
          [some.filter(c, ('*' in c.verbs || v in c.verbs) && ('*' in c.apiGroups || g in c.apiGroups))].exists(rest,
            r.?resourceNames.orValue([]).size() == 0
              ? rest.exists(c, c.?resourceNames.orValue([]).size() == 0)
              : r.resourceNames.all(n, rest.exists(c,
                  c.?resourceNames.orValue([]).size() == 0 || n in c.resourceNames))))).join(', '))[0] + ' ' + x)
      .filter(s, !s.startsWith(' ')).join(', ')).filter(s, s != '')
{{- end }}

{{/* Whether the offered rule `c` has the resource `x`. */}}
{{- define "bulkhead.admission.offersResource" -}}
x in c.resources || (x.contains('/') && '*' + x.substring(x.indexOf('/')) in c.resources)
{{- end }}

{{/* The validation that goes with these. Takes an expression that lets the object pass. */}}
{{- define "bulkhead.admission.withinOfferedRights" -}}
- expression: |-
    {{ . }} || variables.missing.size() == 0
  messageExpression: |-
    'SandboxPolicy ' + params.metadata.name + ' (identity.kubernetesApi.rules) does not accept ' +
    {{ include "bulkhead.admission.short" "variables.missing.join('; ')" }} +
    '; accepted ' + (variables.offered.size() == 0 ? 'are no rules' : 'is what lies inside of ' +
      {{ include "bulkhead.admission.short" "variables.offered.map(c, c.verbs.join('/') + ' ' + c.resources.join(', ') + ' of ' + c.apiGroups.map(g, g == '' ? 'the core group' : g).join(', ') + (c.?resourceNames.orValue([]).size() == 0 ? '' : ' named ' + c.resourceNames.join(', '))).join('; ')" }})
  reason: Forbidden
{{- end }}

{{- define "bulkhead.admission.agent-rights" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "agent-rights") }}
spec:
  failurePolicy: Fail
  {{- include "bulkhead.admission.ofAgents" (list "agentdeployments") | nindent 2 }}
  {{- include "bulkhead.admission.unlessSuspended" . | nindent 2 }}
  variables:
    {{- include "bulkhead.admission.askedRights" . | nindent 4 }}
    {{- include "bulkhead.admission.closedRights" . | nindent 4 }}
    - name: own
      expression: |-
        variables.identity.?tokens.orValue([])
          .filter(t, !(t in variables.before.?identity.?tokens.orValue([])) &&
            t.audience.lowerAscii().matches('{{ include "bulkhead.admission.apiAudiences" . }}')).map(t, t.audience)
  validations:
    {{- include "bulkhead.admission.withinFloorOfRights" "false" | nindent 4 }}
    - expression: variables.own.size() == 0
      messageExpression: |-
        variables.own.join(', ') + ' is the API server itself, which would take the token as one of its own; accepted is the audience of' +
        ' another service, or rules in spec.identity.kubernetesApi'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "agent-rights") }}
{{- end }}

{{/* Rules of an AgentDeployment that were not there before the update, as a variable. */}}
{{- define "bulkhead.admission.askedRights" -}}
- name: before
  expression: "request.operation == 'UPDATE' ? dyn(oldObject.spec) : dyn({})"
- name: identity
  expression: "dyn(object.spec).?identity.orValue({})"
- name: asked
  expression: |-
    variables.identity.?kubernetesApi.?rules.orValue([])
      .filter(r, !(r in variables.before.?identity.?kubernetesApi.?rules.orValue([])))
{{- end }}

{{- define "bulkhead.admission.agent-identity" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "agent-identity") }}
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
    {{- include "bulkhead.admission.askedRights" . | nindent 4 }}
    - name: ceiling
      expression: dyn(params.spec).?identity.orValue({})
    - name: offered
      expression: variables.ceiling.?kubernetesApi.?rules.orValue([])
    {{- include "bulkhead.admission.missingRights" . | nindent 4 }}
    - name: seconds
      expression: variables.identity.?kubernetesApi.?tokenSeconds.orValue(600)
    - name: longest
      expression: variables.ceiling.?kubernetesApi.?maxTokenSeconds.orValue(3600)
    - name: tokens
      expression: |-
        variables.identity.?tokens.orValue([]).filter(t, !(t in variables.before.?identity.?tokens.orValue([])))
    - name: strangers
      expression: variables.tokens.filter(t, !(t.audience in variables.ceiling.?audiences.orValue([]))).map(t, t.audience)
    - name: lasting
      expression: |-
        variables.tokens.filter(t, t.?expirationSeconds.orValue(600) > variables.ceiling.?maxTokenSeconds.orValue(3600))
          .map(t, t.path + ' ' + string(t.expirationSeconds) + ' s')
  validations:
    {{- include "bulkhead.admission.withinOfferedRights" "variables.passes" | nindent 4 }}
    - expression: |-
        variables.passes || !has(variables.identity.kubernetesApi) || variables.seconds <= variables.longest ||
        variables.seconds <= variables.before.?identity.?kubernetesApi.?tokenSeconds.orValue(600)
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (identity.kubernetesApi.maxTokenSeconds) does not accept ' +
        string(variables.seconds) + ' s; accepted are up to ' + string(variables.longest) + ' s'
      reason: Forbidden
    - expression: variables.passes || variables.strangers.size() == 0
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (identity.audiences) does not accept ' +
        {{ include "bulkhead.admission.short" "variables.strangers.join(', ')" }} + '; accepted ' +
        (variables.ceiling.?audiences.orValue([]).size() == 0 ? 'are no tokens'
          : 'are ' + {{ include "bulkhead.admission.short" "variables.ceiling.audiences.join(', ')" }})
      reason: Forbidden
    - expression: variables.passes || variables.lasting.size() == 0
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (identity.maxTokenSeconds) does not accept ' + variables.lasting.join(', ') +
        '; accepted are up to ' + string(variables.ceiling.?maxTokenSeconds.orValue(3600)) + ' s'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "agent-identity" "params" true) }}
{{- end }}
