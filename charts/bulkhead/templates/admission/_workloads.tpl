{{/* Services that lead out of the cluster, or to addresses that no selector names. Break-glass groups may. */}}
{{- define "bulkhead.admission.services" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "services") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    {{- include "bulkhead.admission.inSandboxes" . | nindent 4 }}
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [services, services/status]
        scope: "*"
  # Controllers and finalizers of a Service from before the namespace became a sandbox leave its spec as it is.
  matchConditions:
    - name: another-spec
      expression: request.operation == 'CREATE' || object.spec != oldObject.spec
    - name: not-break-glass
      expression: "!({{ include "bulkhead.admission.breakGlass" . }})"
  validations:
    - expression: object.spec.?type.orValue('ClusterIP') == 'ClusterIP'
      messageExpression: "'a Service of type ' + object.spec.type + ' leads out of the sandbox; accepted is type ClusterIP'"
      reason: Forbidden
    - expression: object.spec.?externalIPs.orValue([]).size() == 0
      message: spec.externalIPs takes over addresses of others (CVE-2020-8554); accepted is a Service without it
      reason: Forbidden
    - expression: object.spec.?selector.orValue({}).size() > 0
      message: a Service without a selector can point anywhere; accepted is one with at least one label in spec.selector
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "services") }}
{{- end }}

{{/*
External addresses of Services anywhere, inside of networks that agents may be granted. Measured: kube-proxy sends what goes to such an
address on to the Service's endpoints, after the network plugin has judged it by the external address. Whoever may write Services in
any namespace could so lead an agent from a network that it was granted to production (CVE-2020-8554).
*/}}
{{- define "bulkhead.admission.services-elsewhere" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "services-elsewhere") }}
spec:
  failurePolicy: Fail
  paramKind:
    apiVersion: bulkhead.dev/v1alpha1
    kind: SandboxPolicy
  matchConstraints:
    matchPolicy: Equivalent
    objectSelector: {}
    namespaceSelector: {}
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [services]
        scope: "*"
  matchConditions:
    - name: more-addresses
      expression: |-
        object.spec.?externalIPs.orValue([]).exists(a,
          request.operation == 'CREATE' || !(a in oldObject.spec.?externalIPs.orValue([])))
  variables:
    - name: diverted
      expression: |-
        object.spec.externalIPs.filter(a,
          (request.operation == 'CREATE' || !(a in oldObject.spec.?externalIPs.orValue([]))) &&
          params.spec.?network.?egressCIDRs.orValue([]).exists(c, !isIP(a) || cidr(c).containsIP(a)))
  validations:
    - expression: |-
        variables.diverted.size() == 0 ||
        {{ include "bulkhead.admission.platform" . }} ||
        {{ include "bulkhead.admission.breakGlass" . }}
      messageExpression: |-
        'spec.externalIPs: ' + variables.diverted.join(', ') + ' lies in what SandboxPolicy ' + params.metadata.name +
        ' (network.egressCIDRs) lets agents reach, and would lead them elsewhere; accepted are other addresses, and these from' +
        ' whoever may update SandboxPolicies or is in {{ include "bulkhead.admission.groups" . }}'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "services-elsewhere" "params" true) }}
{{- end }}

{{/* The status of a pod is the kubelet's to write, but carries the pod's labels too. */}}
{{- define "bulkhead.admission.pod-labels" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "pod-labels") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    {{- include "bulkhead.admission.inSandboxes" . | nindent 4 }}
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [UPDATE]
        resources: [pods/status]
        scope: "*"
  validations:
    - expression: |-
        object.metadata.?labels == oldObject.metadata.?labels ||
        {{ include "bulkhead.admission.breakGlass" . }}
      message: rules select pods by their labels; accepted with the status of a pod are the labels that it has
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "pod-labels") }}
{{- end }}
