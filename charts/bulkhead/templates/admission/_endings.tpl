{{/*
What would end an agent, or a pod of one, on paper only. The processes that run on are nobody's then: neither a suspension nor a kill
switch finds them.
*/}}

{{/* A deletion that leaves the children of an agent behind, with no owner to know them by. */}}
{{- define "bulkhead.admission.orphans" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "orphans") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    {{- include "bulkhead.admission.inSandboxes" . | nindent 4 }}
    resourceRules:
      - apiGroups: [bulkhead.dev]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE, DELETE]
        resources: [agentdeployments]
        scope: "*"
  validations:
    - expression: |-
        request.operation != 'DELETE' ||
        !(request.?options.?propagationPolicy.orValue('') == 'Orphan' || request.?options.?orphanDependents.orValue(false)) ||
        {{ include "bulkhead.admission.breakGlass" . }}
      message: >-
        a deletion that orphans what the agent has would let its pods run on, and nothing could stop them; accepted are
        propagationPolicy Background and Foreground (kubectl delete --cascade=background or foreground)
      reason: Forbidden
    # A deletion that says nothing of it heeds this finalizer.
    - expression: |-
        request.operation == 'DELETE' || !object.metadata.?finalizers.orValue([]).exists(f,
          f == 'orphan' && !(request.operation == 'UPDATE' && f in oldObject.metadata.?finalizers.orValue([]))) ||
        {{ include "bulkhead.admission.breakGlass" . }}
      message: >-
        the finalizer orphan has a deletion leave the pods behind, and nothing could stop them; accepted are agents without it
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "orphans") }}
{{- end }}

{{/*
An eviction deletes the pod in its own way, past every rule about DELETE. Without grace the pod leaves the API before the kubelet has
ended its processes, as with a forced deletion.
*/}}
{{- define "bulkhead.admission.evictions" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "evictions") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    {{- include "bulkhead.admission.inSandboxes" . | nindent 4 }}
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [CREATE]
        resources: [pods/eviction]
        scope: "*"
  validations:
    - expression: |-
        object.?deleteOptions.?gracePeriodSeconds.orValue(30) >= 2 ||
        {{ include "bulkhead.admission.breakGlass" . }}
      messageExpression: |-
        'an eviction with a grace of ' + string(object.deleteOptions.gracePeriodSeconds) + ' s takes the pod off the API before its' +
        ' processes have ended; accepted are evictions without deleteOptions.gracePeriodSeconds, as drains send, or with at least 2'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "evictions") }}
{{- end }}
