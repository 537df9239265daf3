{{/*
What the operator finds its own by: records in its own namespace, and labels of what it makes.
*/}}

{{/*
Records of the operator's namespace. An alert cuts by its record until a status has it, what is issued is revoked by the books of leases, and
who leads holds a Lease: whoever leads and evaluates nothing opens no breaker.
*/}}
{{- define "bulkhead.admission.records" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "records") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    matchPolicy: Equivalent
    objectSelector: {}
    namespaceSelector:
      matchLabels:
        kubernetes.io/metadata.name: {{ .Release.Namespace }}
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE, DELETE]
        resources: [configmaps]
        scope: "*"
      - apiGroups: [coordination.k8s.io]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE, DELETE]
        resources: [leases]
        scope: "*"
  matchConditions:
    - name: not-the-operator
      expression: request.userInfo.username != '{{ include "bulkhead.admission.user" . }}'
    - name: a-record
      expression: |-
        (request.operation == 'CREATE' ? [object] : request.operation == 'DELETE' ? [oldObject] : [object, oldObject]).exists(o,
          request.resource.resource == 'leases' ? o.metadata.name == 'bulkhead-operator' :
          o.metadata.name.matches('^bulkhead-(alert|lease)-') || 'bulkhead.dev/alert' in o.metadata.?labels.orValue({}) ||
          'bulkhead.dev/lease' in o.metadata.?labels.orValue({}))
  variables:
    - name: writers
      expression: |-
        [{{ include "bulkhead.admission.text" (include "bulkhead.admission.user" .) }}] + (request.operation != 'DELETE' ? [] :
        {{ include "bulkhead.admission.writers" (dict "root" . "writers" (list "namespace-controller")) }})
  validations:
    - expression: |-
        request.userInfo.username in variables.writers || {{ include "bulkhead.admission.breakGlass" . }}
      messageExpression: |-
        'by the records of its namespace the operator stops agents, revokes what they hold and knows who leads, and ' +
        request.userInfo.username + ' may not ' + request.operation + ' one; accepted are ' +
        (variables.writers + ['members of {{ include "bulkhead.admission.groups" . }}']).join(', ')
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "records") }}
{{- end }}

{{/*
Many agents are cut by one call for a kind and a namespace, which deletes by label. So a label of an agent's is on what was made of it, and on
nothing else; and whoever takes it off hides an object from the cut.
*/}}
{{- define "bulkhead.admission.marks" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "marks") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    {{- include "bulkhead.admission.inSandboxes" . | nindent 4 }}
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [pods, serviceaccounts]
        scope: "*"
      - apiGroups: [apps]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [statefulsets, statefulsets/status]
        scope: "*"
      - apiGroups: [networking.k8s.io]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [networkpolicies]
        scope: "*"
      - apiGroups: [rbac.authorization.k8s.io]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [roles, rolebindings]
        scope: "*"
      - apiGroups: [cilium.io]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [ciliumnetworkpolicies]
        scope: "*"
  matchConditions:
    - name: not-the-operator
      expression: request.userInfo.username != '{{ include "bulkhead.admission.user" . }}'
    # A pod has the labels of its StatefulSet's template, which the operator wrote.
    - name: not-a-pod-of-a-stateful-set
      expression: |-
        !(request.resource.resource == 'pods' && request.operation == 'CREATE' && request.userInfo.username in
          {{ include "bulkhead.admission.writers" (dict "root" . "writers" (list "statefulset-controller")) }})
    - name: another-mark
      expression: |-
        !({{ include "bulkhead.admission.breakGlass" . }}) && {{ include "bulkhead.admission.changedMarks" . | nindent 8 | trim }}.size() > 0
  variables:
    - name: changed
      expression: |-
        {{- include "bulkhead.admission.changedMarks" . | nindent 8 }}
  validations:
    - expression: "false"
      messageExpression: |-
        'the operator finds what it made of an agent by ' + variables.changed.join(', ') + ', and ' + request.userInfo.username +
        ' may neither give nor take that; accepted are other labels, and these from {{ include "bulkhead.admission.user" . }} and members of' +
        ' {{ include "bulkhead.admission.groups" . }}'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "marks") }}
{{- end }}

{{/* The keys of an agent's labels that are not as they were: an expression of CEL. */}}
{{- define "bulkhead.admission.changedMarks" -}}
['bulkhead.dev/agent', 'bulkhead.dev/agent-uid', 'app.kubernetes.io/managed-by'].filter(k,
  [[request.operation == 'CREATE' ? {} : oldObject.metadata.?labels.orValue({}), object.metadata.?labels.orValue({})]].exists(labels,
    labels[0][?k] != labels[1][?k] &&
    (k.startsWith('bulkhead.dev/') || labels.exists(l, l[?k].orValue('') == 'bulkhead'))))
{{- end }}
