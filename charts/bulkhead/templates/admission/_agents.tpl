{{/*
What an AgentDeployment may ask for, told when it is asked for. The operator decides again before anything is built. A suspended
agent is let through, and so is every update that leaves what is over a ceiling as it was: whoever tightens a policy must not keep
others from suspending, scaling down or mending their agents.
*/}}

{{/* matchConstraints of policies about AgentDeployments. Takes a list of resources. */}}
{{- define "bulkhead.admission.ofAgents" -}}
matchConstraints:
  {{- include "bulkhead.admission.inSandboxes" . | nindent 2 }}
  resourceRules:
    - apiGroups: [bulkhead.dev]
      apiVersions: ["*"]
      operations: [CREATE, UPDATE]
      resources: {{ toJson . }}
      scope: "*"
{{- end }}

{{/* matchConditions by which an agent that is to be suspended passes at once, whatever there is to look at. */}}
{{- define "bulkhead.admission.unlessSuspended" -}}
matchConditions:
  - name: not-suspended
    expression: "!object.spec.?suspend.orValue(false)"
{{- end }}

{{/* Peers that were not there before the update, as a variable. */}}
{{- define "bulkhead.admission.peers" -}}
- name: before
  expression: "request.operation == 'UPDATE' ? dyn(oldObject.spec) : dyn({})"
- name: network
  expression: "dyn(object.spec).?network.orValue({})"
- name: peers
  expression: |-
    variables.network.?egress.orValue([])
      .filter(e, !(e in variables.before.?network.?egress.orValue([]))).map(e, e.to) +
    variables.network.?ingress.orValue([])
      .filter(i, !(i in variables.before.?network.?ingress.orValue([]))).map(i, i.from)
- name: blocks
  expression: |-
    variables.peers.filter(p, has(p.cidr)).map(p, {{ include "bulkhead.admission.parsed" . }})
{{- end }}

{{- define "bulkhead.admission.agent-floor" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "agent-floor") }}
spec:
  failurePolicy: Fail
  {{- include "bulkhead.admission.ofAgents" (list "agentdeployments") | nindent 2 }}
  {{- include "bulkhead.admission.unlessSuspended" . | nindent 2 }}
  variables:
    {{- include "bulkhead.admission.peers" . | nindent 4 }}
    - name: floor
      expression: |-
        {{- include "bulkhead.admission.floor" (dict "root" . "list" "closed") | nindent 8 }}
    - name: what
      expression: |-
        {{- include "bulkhead.admission.what" (dict "root" . "list" "closed") | nindent 8 }}
    - name: reached
      expression: |-
        variables.blocks.map(b,
          {{- include "bulkhead.admission.reached" (dict "networks" "variables.floor" "more" "' (' + variables.what[string(n)] + ')'") | nindent 10 }}
        ).filter(s, s != '')
  validations:
    - expression: variables.reached.size() == 0
      messageExpression: |-
        'spec.network: ' + variables.reached.join('; ') +
        '; no policy opens these addresses, accepted is a network outside of each, or with one `except` that contains it'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "agent-floor") }}
{{- end }}

{{- define "bulkhead.admission.agent-network" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "agent-network") }}
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
    {{- include "bulkhead.admission.peers" . | nindent 4 }}
    - name: ceiling
      expression: dyn(params.spec).?network.orValue({})
    - name: outside
      expression: |-
        variables.blocks.filter(b,
          !variables.ceiling.?egressCIDRs.orValue([]).exists(c, cidr(c).containsCIDR(b.cidr)))
          .map(b, string(b.cidr))
    - name: production
      expression: |-
        {{- include "bulkhead.admission.production" . | nindent 8 }}
    - name: reached
      expression: |-
        variables.blocks.map(b,
          {{- include "bulkhead.admission.reached" (dict "networks" "variables.production") | nindent 10 }}
        ).filter(s, s != '')
    - name: shared
      expression: |-
        {{- include "bulkhead.admission.floor" (dict "root" . "list" "openable") | nindent 8 }}
    - name: opened
      expression: variables.ceiling.?openSharedAddressSpace.orValue([])
    - name: unopened
      expression: |-
        variables.blocks.filter(b, !variables.opened.exists(o, cidr(o).containsCIDR(b.cidr)) &&
          variables.shared.exists(n, {{ include "bulkhead.admission.overlaps" . }} &&
            !b.except.exists(e, cidr(e).containsCIDR(n)))).map(b, string(b.cidr))
    - name: named
      expression: |-
        variables.peers.filter(p, has(p.service)).map(p, p.service.split('/')[0]) +
        variables.peers.filter(p, has(p.pods)).map(p, p.pods[?'namespace'].orValue(request.namespace))
    - name: foreign
      expression: |-
        variables.named.filter(n, n != request.namespace && !(n in variables.ceiling.?namespaces.orValue([])))
    - name: productive
      expression: variables.named.filter(n, n in params.?status.?productionNamespaces.orValue([]))
  validations:
    - expression: variables.passes || variables.reached.size() == 0
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (production.cidrs): ' + variables.reached.join('; ') +
        '; accepted is a network outside of production, or with one `except` that contains each network of it'
      reason: Forbidden
    - expression: variables.passes || variables.unopened.size() == 0
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (network.openSharedAddressSpace): ' + variables.unopened.join(', ') +
        ' reaches shared address space; accepted is a network ' +
        (variables.opened.size() == 0 ? 'outside of ' + variables.shared.map(n, string(n)).join(', ')
                                      : 'inside of one of ' + variables.opened.join(', '))
      reason: Forbidden
    - expression: variables.passes || variables.outside.size() == 0
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (network.egressCIDRs) does not accept ' + variables.outside.join(', ') +
        '; accepted is ' + (variables.ceiling.?egressCIDRs.orValue([]).size() == 0 ? 'no network'
          : 'a network inside of one of ' + variables.ceiling.egressCIDRs.join(', '))
      reason: Forbidden
    - expression: variables.passes || variables.productive.size() == 0
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (production.namespaceSelector): namespace ' +
        variables.productive.join(', ') + ' is production; accepted are other namespaces'
      reason: Forbidden
    - expression: variables.passes || variables.foreign.size() == 0
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (network.namespaces) does not accept namespace ' +
        variables.foreign.join(', ') + '; accepted are ' +
        (variables.ceiling.?namespaces.orValue([]) + ['its own namespace ' + request.namespace]).join(', ')
      reason: Forbidden
    - expression: |-
        variables.passes || variables.network.?dns.orValue('None') != 'Cluster' ||
        variables.before.?network.?dns.orValue('None') == 'Cluster' || variables.ceiling.?clusterDNS.orValue(false)
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (network.clusterDNS) does not accept spec.network.dns: Cluster; accepted is None'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "agent-network" "params" true) }}
{{- end }}

{{- define "bulkhead.admission.agent-workload" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "agent-workload") }}
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
    - name: update
      expression: request.operation == 'UPDATE'
    - name: spec
      expression: dyn(object.spec)
    - name: before
      expression: "variables.update ? dyn(oldObject.spec) : dyn({})"
    - name: ceiling
      expression: dyn(params.spec).?workload.orValue({})
    - name: replicas
      expression: variables.spec.?replicas.orValue(1)
    # As in image references: the first part is a registry if it has a dot, a colon or a capital, or is localhost.
    - name: parts
      expression: variables.spec.image.split('@')[0].split('/')
    - name: hosted
      expression: |-
        variables.parts.size() > 1 && (variables.parts[0].contains('.') || variables.parts[0].contains(':') ||
          variables.parts[0] == 'localhost' || variables.parts[0] != variables.parts[0].lowerAscii())
    - name: host
      expression: "variables.hosted && variables.parts[0] != 'index.docker.io' ? variables.parts[0] : 'docker.io'"
    - name: path
      expression: |-
        variables.hosted ? variables.spec.image.split('@')[0].substring(variables.parts[0].size() + 1)
                         : variables.spec.image.split('@')[0]
    - name: repository
      expression: |-
        variables.host + '/' + (variables.host == 'docker.io' && !variables.path.contains('/') ? 'library/' : '') +
        variables.path.split('/').map(p, p.split(':')[0]).join('/')
    - name: excess
      expression: |-
        ['cpu', 'memory', 'ephemeral-storage'].filter(n,
          !(variables.update && variables.before.?resources.?limits[?n] == variables.spec.?resources.?limits[?n]) &&
          variables.spec.?resources.?limits[?n].hasValue() &&
          variables.ceiling.?maxResources[?(n == 'ephemeral-storage' ? 'ephemeralStorage' : n)].hasValue() &&
          quantity(string(variables.spec.resources.limits[n])).isGreaterThan(
            quantity(string(variables.ceiling.maxResources[n == 'ephemeral-storage' ? 'ephemeralStorage' : n]))))
    - name: nodeSelector
      expression: variables.spec.?placement.?nodeSelector.orValue({})
    - name: contradicted
      expression: |-
        variables.ceiling.?requiredNodeLabels.orValue({}).map(k, k).filter(k, k in variables.nodeSelector &&
          variables.nodeSelector[k] != variables.ceiling.requiredNodeLabels[k] &&
          !(variables.update && variables.before.?placement.?nodeSelector[?k] == variables.nodeSelector[?k]))
    - name: tolerated
      expression: |-
        variables.spec.?placement.?tolerations.orValue([])
          .filter(t, !(t in variables.before.?placement.?tolerations.orValue([]))).map(t, t.key)
  validations:
    - expression: |-
        variables.passes || !has(variables.ceiling.maxReplicas) || variables.replicas <= variables.ceiling.maxReplicas ||
        (variables.update && variables.replicas <= variables.before.?replicas.orValue(1))
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (workload.maxReplicas) does not accept ' + string(variables.replicas) +
        ' replicas; accepted are up to ' + string(variables.ceiling.maxReplicas)
      reason: Forbidden
    - expression: |-
        variables.passes || !has(variables.ceiling.registries) ||
        (variables.update && variables.before.image == variables.spec.image) ||
        variables.ceiling.registries.exists(r, variables.repository == r ||
          variables.repository.startsWith(r.endsWith('/') ? r : r + '/'))
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (workload.registries) does not accept ' + variables.repository +
        '; accepted are images from ' + variables.ceiling.registries.join(', ')
      reason: Forbidden
    - expression: |-
        variables.passes || !variables.ceiling.?requireDigest.orValue(false) || variables.spec.image.contains('@') ||
        (variables.update && variables.before.image == variables.spec.image)
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (workload.requireDigest) does not accept ' + variables.spec.image +
        '; accepted is an image with its digest, NAME@sha256:DIGEST'
      reason: Forbidden
    - expression: variables.passes || variables.excess.size() == 0
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (workload.maxResources) does not accept ' +
        variables.excess.map(n, n + ' ' + string(variables.spec.resources.limits[n])).join(', ') + '; accepted is up to ' +
        variables.excess.map(n, n + ' ' +
          string(variables.ceiling.maxResources[n == 'ephemeral-storage' ? 'ephemeralStorage' : n])).join(', ')
      reason: Forbidden
    - expression: |-
        variables.passes || !has(variables.ceiling.runtimeClasses) ||
        (variables.update && variables.before.?runtimeClassName == variables.spec.?runtimeClassName) ||
        variables.spec.?runtimeClassName.orValue('') in variables.ceiling.runtimeClasses
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (workload.runtimeClasses) does not accept ' +
        variables.spec.?runtimeClassName.orValue('an agent without runtimeClassName') +
        '; accepted as runtimeClassName are ' + variables.ceiling.runtimeClasses.join(', ')
      reason: Forbidden
    - expression: variables.passes || variables.contradicted.size() == 0
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (workload.requiredNodeLabels) does not accept in placement.nodeSelector ' +
        variables.contradicted.map(k, k + ': ' + variables.nodeSelector[k]).join(', ') + '; accepted is ' +
        variables.contradicted.map(k, k + ': ' + variables.ceiling.requiredNodeLabels[k]).join(', ')
      reason: Forbidden
    - expression: |-
        variables.passes || !has(variables.ceiling.tolerations) ||
        variables.tolerated.all(k, k in variables.ceiling.tolerations)
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (workload.tolerations) does not accept ' +
        variables.tolerated.filter(k, !(k in variables.ceiling.tolerations)).join(', ') + '; accepted ' +
        (variables.ceiling.tolerations.size() == 0 ? 'is no toleration' : 'are ' + variables.ceiling.tolerations.join(', '))
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "agent-workload" "params" true) }}
{{- end }}

{{/* Replicas by the scale subresource, whose object is a Scale. */}}
{{- define "bulkhead.admission.agent-scale" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "agent-scale") }}
spec:
  failurePolicy: Fail
  paramKind:
    apiVersion: bulkhead.dev/v1alpha1
    kind: SandboxPolicy
  {{- include "bulkhead.admission.ofAgents" (list "agentdeployments/scale") | nindent 2 }}
  variables:
    - name: labels
      expression: namespaceObject.metadata.?labels.orValue({})
    - name: applies
      expression: |-
        {{- include "bulkhead.admission.applies" . | nindent 8 }}
    - name: ceiling
      expression: dyn(params.spec).?workload.orValue({})
    - name: replicas
      expression: object.spec.?replicas.orValue(0)
  validations:
    - expression: |-
        !variables.applies || !has(variables.ceiling.maxReplicas) || variables.replicas <= variables.ceiling.maxReplicas ||
        variables.replicas <= oldObject.spec.?replicas.orValue(0)
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (workload.maxReplicas) does not accept ' + string(variables.replicas) +
        ' replicas; accepted are up to ' + string(variables.ceiling.maxReplicas)
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "agent-scale" "params" true) }}
{{- end }}
