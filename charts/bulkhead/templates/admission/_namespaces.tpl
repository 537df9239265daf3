{{/*
What makes a namespace a sandbox, and what SandboxPolicies and pod security select by, are its labels: platform engineers alone
change them. Status and finalize can carry labels too.
*/}}
{{- define "bulkhead.admission.namespaces" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "namespaces") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    matchPolicy: Equivalent
    objectSelector: {}
    namespaceSelector: {}
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [namespaces, namespaces/status, namespaces/finalize]
        scope: "*"
  variables:
    - name: labels
      expression: object.metadata.?labels.orValue({})
    - name: before
      expression: "request.operation == 'CREATE' ? {} : oldObject.metadata.?labels.orValue({})"
    - name: sandbox
      expression: |-
        variables.labels[?'bulkhead.dev/sandbox'].orValue('') == 'true' ||
        variables.before[?'bulkhead.dev/sandbox'].orValue('') == 'true'
    - name: changed
      expression: |-
        variables.labels.map(k, k).filter(k, variables.before[?k] != variables.labels[?k]) +
        variables.before.map(k, k).filter(k, !(k in variables.labels))
  validations:
    - expression: |-
        !variables.sandbox || variables.changed.size() == 0 ||
        {{ include "bulkhead.admission.platform" . }}
      messageExpression: |-
        'the labels of the sandbox namespace ' + object.metadata.name + ' may not be changed by ' + request.userInfo.username +
        ' (' + variables.changed.join(', ') + '); accepted is whoever may update SandboxPolicies'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "namespaces") }}
{{- end }}
