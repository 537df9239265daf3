{{/*
What keeps a stop in force until somebody who may end it does: a KillSwitch is removed by who has the right to delete it and in no other
way, an agent does not slip out of one, and no agent has a hand in its own.
*/}}

{{- define "bulkhead.admission.killswitches" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "killswitches") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    matchPolicy: Equivalent
    objectSelector: {}
    namespaceSelector: {}
    resourceRules:
      - apiGroups: [bulkhead.dev]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE, DELETE]
        resources: [killswitches, killswitches/status]
        scope: "*"
  variables:
    - name: ends
      expression: request.operation == 'DELETE'
    - name: recorded
      expression: request.?subResource.orValue('') == 'status'
    - name: collectors
      expression: |-
        {{ include "bulkhead.admission.writers" (dict "root" . "writers" (list "generic-garbage-collector")) }}
  validations:
    # The garbage collector deletes what has owners that are gone, and anybody who may change an object may make up an owner for it.
    - expression: variables.ends || variables.recorded || object.metadata.?ownerReferences.orValue([]).size() == 0
      message: >-
        a KillSwitch with an owner goes when its owner goes, without anybody's right to remove it; accepted is one without ownerReferences
      reason: Forbidden
    - expression: "!variables.ends || !(request.userInfo.username in variables.collectors)"
      message: >-
        a KillSwitch is no garbage; accepted is that somebody deletes it who may
      reason: Forbidden
    # One that cannot be removed stays in force: who may only create switches does not decide that. Deletion itself adds finalizers of
    # its own, past admission.
    - expression: |-
        variables.ends || variables.recorded || object.metadata.?finalizers.orValue([]).all(f,
          request.operation == 'UPDATE' && f in oldObject.metadata.?finalizers.orValue([]))
      message: >-
        a finalizer would keep a KillSwitch in force after it was deleted; accepted are none
      reason: Forbidden
    - expression: |-
        !variables.recorded || request.userInfo.username == '{{ include "bulkhead.admission.user" . }}' ||
        {{ include "bulkhead.admission.breakGlass" . }}
      messageExpression: |-
        'the status of a KillSwitch says what was verified, and ' + request.userInfo.username + ' may not write it; accepted are' +
        ' {{ include "bulkhead.admission.user" . }} and members of {{ include "bulkhead.admission.groups" . }}'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "killswitches") }}
{{- end }}

{{/* Whether the KillSwitch `params` stops the agent in the state `o`, a map of name, namespace, tenant, workflow and labels. */}}
{{- define "bulkhead.admission.stops" -}}
selector.?all.orValue(false) || (
  (!has(selector.namespaces) || o.namespace in selector.namespaces) &&
  (!has(selector.tenants) || o.tenant in selector.tenants) &&
  (!has(selector.workflows) || o.workflow in selector.workflows) &&
  selector.?labels.?matchLabels.orValue({}).all(k, k in o.labels && o.labels[k] == selector.labels.matchLabels[k]) &&
  selector.?labels.?matchExpressions.orValue([]).all(e,
    e.operator == 'In' ? e.key in o.labels && o.labels[e.key] in e.values :
    e.operator == 'NotIn' ? !(e.key in o.labels && o.labels[e.key] in e.values) :
    e.operator == 'Exists' ? e.key in o.labels :
    !(e.key in o.labels)))
{{- end }}

{{/* Whoever may write an agent may write what switches select it by, and would so remove it from one. */}}
{{- define "bulkhead.admission.agent-switches" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "agent-switches") }}
spec:
  failurePolicy: Fail
  paramKind:
    apiVersion: bulkhead.dev/v1alpha1
    kind: KillSwitch
  matchConstraints:
    {{- include "bulkhead.admission.inSandboxes" . | nindent 4 }}
    resourceRules:
      - apiGroups: [bulkhead.dev]
        apiVersions: ["*"]
        operations: [UPDATE]
        resources: [agentdeployments]
        scope: "*"
  matchConditions:
    - name: another-selection
      expression: |-
        object.spec.?tenant != oldObject.spec.?tenant || object.spec.?workflow != oldObject.spec.?workflow ||
        object.metadata.?labels != oldObject.metadata.?labels
  variables:
    - name: states
      expression: |-
        [dyn(oldObject), dyn(object)].map(a, {
          'namespace': dyn(request.namespace),
          'tenant': dyn(a.spec.?tenant.orValue('')),
          'workflow': dyn(a.spec.?workflow.orValue(a.metadata.name)),
          'labels': dyn(a.metadata.?labels.orValue({}))})
    - name: stopped
      expression: |-
        [dyn(params.spec.selector)].map(selector, variables.states.map(o,
          {{- include "bulkhead.admission.stops" . | nindent 10 }}))[0]
  validations:
    - expression: |-
        !variables.stopped[0] || variables.stopped[1] ||
        authorizer.group('bulkhead.dev').resource('killswitches').check('delete').allowed()
      messageExpression: |-
        'KillSwitch ' + params.metadata.name + ' stops this agent by its spec.tenant, spec.workflow or labels; accepted are changes with' +
        ' which it still does, and others from whoever may delete KillSwitches'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "agent-switches" "params" true) }}
{{- end }}

{{/*
Agents have no rights on these kinds, for no policy offers any. A role that somebody binds to all service accounts of a namespace, or of the
cluster, is not seen by those ceilings.
*/}}
{{- define "bulkhead.admission.agent-accounts" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "agent-accounts") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    matchPolicy: Equivalent
    objectSelector: {}
    namespaceSelector: {}
    resourceRules:
      - apiGroups: [bulkhead.dev]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE, DELETE]
        resources: ["*/*"]
        scope: "*"
  matchConditions:
    - name: an-agents-account
      expression: request.userInfo.username.matches('^system:serviceaccount:[^:]+:agent-')
  validations:
    - expression: "false"
      messageExpression: |-
        request.userInfo.username + ' is the account of an agent by its name, and no agent writes ' + request.resource.resource +
        ', its own or another\'s: what stops it would be its own to end; accepted are accounts whose names do not begin with agent-'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "agent-accounts") }}
{{- end }}
