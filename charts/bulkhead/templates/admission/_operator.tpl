{{/*
What the operator's own user may write, so that its token is worth little to whoever steals it: RBAC gives it rights in every namespace,
because it cannot know which ones become sandboxes. A PATCH or DELETE answers with the object as it is, so whoever may write a Secret
may read it, unless admission refuses the write.
*/}}

{{/* matchConstraints of policies about what the operator writes of an agent's. Takes a list of rules. */}}
{{- define "bulkhead.admission.ofOperator" -}}
matchConstraints:
  {{- include "bulkhead.admission.inSandboxes" . | nindent 2 }}
  resourceRules:
    {{- range . }}
    - apiGroups: [{{ .group | quote }}]
      apiVersions: ["*"]
      operations: [CREATE, UPDATE]
      resources: {{ toJson .resources }}
      scope: "*"
    {{- end }}
{{- end }}

{{/*
Whether the object `o` is what the operator makes of an agent, or the deny-all: by its name and its owner. Takes an expression of the resource.
*/}}
{{- define "bulkhead.admission.madeOfAgents" -}}
({{ . }} == 'networkpolicies' && o.metadata.name == 'bulkhead-deny-all' &&
  o.metadata.?labels[?'app.kubernetes.io/managed-by'].orValue('') == 'bulkhead') ||
o.metadata.?ownerReferences.orValue([]).exists(r,
  r.kind == 'AgentDeployment' && r.apiVersion.startsWith('bulkhead.dev/') && (
    {{ . }} == 'statefulsets' ? o.metadata.name == r.name :
    {{ . }} == 'secrets' ? o.metadata.name.startsWith('agent-' + r.name + '.') :
    o.metadata.name == 'agent-' + r.name))
{{- end }}

{{- define "bulkhead.admission.operator" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "operator") }}
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
        resources: [secrets, serviceaccounts, serviceaccounts/token, configmaps, persistentvolumeclaims, pods]
        scope: "*"
      - apiGroups: [apps]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [statefulsets]
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
        resources: [ciliumnetworkpolicies, ciliumclusterwidenetworkpolicies]
        scope: "*"
      - apiGroups: [policy.networking.k8s.io]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [clusternetworkpolicies]
        scope: "*"
      - apiGroups: [bulkhead.dev]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [agentdeployments, killswitches]
        scope: "*"
  {{- include "bulkhead.admission.byOperator" . | nindent 2 }}
  variables:
    - name: kind
      expression: request.resource.resource
    # What is there before the request, and what is there after it, as far as there is either.
    - name: states
      expression: |-
        (request.operation == 'CREATE' ? [] : [dyn(oldObject)]) + [dyn(object)]
    - name: sandbox
      expression: |-
        namespaceObject != null && namespaceObject.metadata.?labels[?'bulkhead.dev/sandbox'].orValue('') == 'true'
    - name: children
      expression: |-
        ['secrets', 'serviceaccounts', 'roles', 'rolebindings', 'networkpolicies', 'ciliumnetworkpolicies', 'statefulsets']
    - name: ours
      expression: |-
        variables.states.all(o,
          {{- include "bulkhead.admission.madeOfAgents" "variables.kind" | nindent 10 }})
    - name: denies
      expression: |-
        variables.states.all(o, o.metadata.?ownerReferences.orValue([]).exists(r,
          r.kind == 'SandboxPolicy' && r.apiVersion.startsWith('bulkhead.dev/') &&
          o.metadata.name.startsWith('bulkhead-' + r.name)))
    - name: finalizer
      expression: "'bulkhead.dev/revoke-credentials'"
    # How a clusterwide policy selects pods, by the labels of their namespace: a list of requirements for each selector.
    - name: selectors
      expression: |-
        variables.kind == 'ciliumclusterwidenetworkpolicies'
          ? (dyn(object).?specs.orValue([]) + (has(dyn(object).spec) ? [dyn(object).spec] : []))
              .map(s, s.?endpointSelector.?matchExpressions.orValue([]))
          : [(has(dyn(object).spec.subject.pods) ? dyn(object).spec.subject.pods.?namespaceSelector.orValue({})
              : dyn(object).spec.subject.?namespaces.orValue({})).?matchExpressions.orValue([])]
  validations:
    - expression: request.?subResource.orValue('') != 'token'
      message: the operator asks for no tokens of accounts; accepted are the kubelets, for their pods
      reason: Forbidden
    - expression: "!(variables.kind in variables.children) || variables.sandbox"
      messageExpression: |-
        'the operator writes ' + variables.kind + ' in sandbox namespaces only, and ' + request.namespace + ' is none; accepted are' +
        ' namespaces with the label bulkhead.dev/sandbox: "true"'
      reason: Forbidden
    - expression: |-
        !(variables.kind in variables.children) || request.?subResource.orValue('') != '' || variables.ours
      messageExpression: |-
        'the operator writes of ' + variables.kind + ' only what it makes itself; accepted is what an AgentDeployment NAME owns' +
        ' that is called ' + (variables.kind == 'statefulsets' ? 'NAME'
          : variables.kind == 'secrets' ? 'agent-NAME.CREDENTIAL' : 'agent-NAME')
      reason: Forbidden
    - expression: |-
        variables.kind != 'networkpolicies' || object.metadata.name != 'bulkhead-deny-all' ||
        (dyn(object).spec.?egress.orValue([]).size() == 0 && dyn(object).spec.?ingress.orValue([]).size() == 0 &&
          dyn(object).spec.?podSelector.orValue({}).size() == 0 && dyn(object).spec.?policyTypes.orValue([]).size() == 2)
      message: the deny-all of a namespace opens nothing; accepted is one for every pod and both directions without a rule
      reason: Forbidden
    - expression: |-
        variables.kind != 'secrets' || variables.states.all(o, o.?type.orValue('Opaque') == 'Opaque')
      message: the operator writes the Secrets of leases only; accepted is type Opaque
      reason: Forbidden
    - expression: |-
        variables.kind != 'serviceaccounts' || request.?subResource.orValue('') != '' ||
        (!dyn(object).?automountServiceAccountToken.orValue(true) && dyn(object).?secrets.orValue([]).size() == 0 &&
          object.metadata.?annotations.orValue({}).size() == 0)
      message: >-
        the operator makes accounts that have no token and no identity elsewhere; accepted is automountServiceAccountToken: false,
        without secrets and annotations
      reason: Forbidden
    - expression: |-
        variables.kind != 'configmaps' ||
        (request.namespace == '{{ .Release.Namespace }}' && variables.states.all(o, o.metadata.name.matches('^bulkhead-(alert|lease)-')))
      message: >-
        the operator writes its records of leases and alerts only; accepted are ConfigMaps bulkhead-lease-ID and bulkhead-alert-ID of its
        own namespace
      reason: Forbidden
    - expression: |-
        variables.kind != 'persistentvolumeclaims' || (request.operation == 'UPDATE' &&
          dyn(object).spec == dyn(oldObject).spec && 'bulkhead.dev/agent-uid' in oldObject.metadata.?annotations.orValue({}))
      message: the operator marks workspaces and writes nothing else of claims; accepted is metadata of a claim that was made for an agent
      reason: Forbidden
    - expression: variables.kind != 'pods'
      message: the operator makes no pods and changes none; accepted is that it ends those of agents
      reason: Forbidden
    - expression: |-
        !(variables.kind in ['ciliumclusterwidenetworkpolicies', 'clusternetworkpolicies']) || variables.denies
      message: >-
        the operator writes the denies of SandboxPolicies only; accepted is what a SandboxPolicy NAME owns that is called bulkhead-NAME
      reason: Forbidden
    - expression: |-
        variables.kind != 'ciliumclusterwidenetworkpolicies' ||
        (dyn(object).?specs.orValue([]) + (has(dyn(object).spec) ? [dyn(object).spec] : []))
          .all(s, s.?egress.orValue([]).size() == 0 && s.?ingress.orValue([]).size() == 0)
      message: the operator allows nothing in a whole cluster; accepted are egressDeny and ingressDeny
      reason: Forbidden
    - expression: |-
        variables.kind != 'clusternetworkpolicies' ||
        (dyn(object).spec.?egress.orValue([]) + dyn(object).spec.?ingress.orValue([])).all(r, r.action == 'Deny')
      message: the operator allows nothing in a whole cluster; accepted are rules with the action Deny
      reason: Forbidden
    - expression: |-
        !(variables.kind in ['ciliumclusterwidenetworkpolicies', 'clusternetworkpolicies']) ||
        variables.selectors.all(s, s.exists(e, e.operator == 'In' && e.values == ['true'] &&
          e.key in ['bulkhead.dev/sandbox', 'k8s:io.cilium.k8s.namespace.labels.bulkhead.dev/sandbox']))
      message: >-
        the operator denies nothing to others; accepted are selectors of namespaces with bulkhead.dev/sandbox In ["true"]
      reason: Forbidden
    - expression: variables.kind != 'killswitches' || request.?subResource.orValue('') == 'status'
      message: the operator makes no KillSwitches and removes none; accepted are people, and of the operator's the status
      reason: Forbidden
    # Users own the spec. Agents may run anywhere where they were written, so this holds in every namespace.
    - expression: |-
        variables.kind != 'agentdeployments' || request.operation != 'CREATE'
      message: the operator makes no agents; accepted are people and what works for them
      reason: Forbidden
    - expression: |-
        variables.kind != 'agentdeployments' || request.operation != 'UPDATE' || (
          dyn(object).spec == dyn(oldObject).spec &&
          object.metadata.?labels == oldObject.metadata.?labels &&
          object.metadata.?annotations == oldObject.metadata.?annotations &&
          object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences &&
          object.metadata.?finalizers.orValue([]).filter(f, f != variables.finalizer) ==
            oldObject.metadata.?finalizers.orValue([]).filter(f, f != variables.finalizer))
      message: the operator writes no spec of an agent; accepted is its finalizer bulkhead.dev/revoke-credentials
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "operator") }}
{{- end }}

{{/*
What the operator deletes, anywhere. A fleet is cut by collections, each object of which is asked about: what is accepted leaves by a condition,
before anything else is evaluated. Pods of sandbox namespaces are not asked about at all.
*/}}
{{- define "bulkhead.admission.operator-deletions" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "operator-deletions") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    matchPolicy: Equivalent
    objectSelector: {}
    namespaceSelector: {}
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [DELETE]
        resources: [secrets, serviceaccounts, configmaps, persistentvolumeclaims]
        scope: "*"
      - apiGroups: [apps]
        apiVersions: ["*"]
        operations: [DELETE]
        resources: [statefulsets]
        scope: "*"
      - apiGroups: [networking.k8s.io]
        apiVersions: ["*"]
        operations: [DELETE]
        resources: [networkpolicies]
        scope: "*"
      - apiGroups: [rbac.authorization.k8s.io]
        apiVersions: ["*"]
        operations: [DELETE]
        resources: [roles, rolebindings]
        scope: "*"
      - apiGroups: [cilium.io]
        apiVersions: ["*"]
        operations: [DELETE]
        resources: [ciliumnetworkpolicies, ciliumclusterwidenetworkpolicies]
        scope: "*"
      - apiGroups: [policy.networking.k8s.io]
        apiVersions: ["*"]
        operations: [DELETE]
        resources: [clusternetworkpolicies]
        scope: "*"
      - apiGroups: [bulkhead.dev]
        apiVersions: ["*"]
        operations: [DELETE]
        resources: [agentdeployments, killswitches]
        scope: "*"
  {{- include "bulkhead.admission.byOperator" . | nindent 2 }}
    - name: not-its-own
      expression: |-
        [dyn(oldObject)].all(o, [request.resource.resource].all(kind, !(
          kind == 'configmaps'
            ? request.namespace == '{{ .Release.Namespace }}' && o.metadata.name.matches('^bulkhead-(alert|lease)-') :
          kind in ['persistentvolumeclaims', 'killswitches'] ? false :
          kind == 'agentdeployments' ? o.spec.?lifetime.?onExpiry.orValue('Suspend') == 'Delete' :
          kind in ['ciliumclusterwidenetworkpolicies', 'clusternetworkpolicies']
            ? o.metadata.?ownerReferences.orValue([]).exists(r,
                r.kind == 'SandboxPolicy' && r.apiVersion.startsWith('bulkhead.dev/')) :
          (kind != 'secrets' || o.?type.orValue('Opaque') == 'Opaque') && (
            {{- include "bulkhead.admission.madeOfAgents" "kind" | nindent 12 }}))))
  variables:
    - name: kind
      expression: request.resource.resource
    - name: accepted
      expression: |-
        {
          'agentdeployments': 'an agent with spec.lifetime.onExpiry Delete',
          'configmaps': 'ConfigMaps bulkhead-lease-ID and bulkhead-alert-ID of its own namespace',
          'secrets': 'a Secret agent-NAME.CREDENTIAL of type Opaque that an AgentDeployment NAME owns',
          'statefulsets': 'a StatefulSet NAME that an AgentDeployment NAME owns',
          'ciliumclusterwidenetworkpolicies': 'what a SandboxPolicy owns',
          'clusternetworkpolicies': 'what a SandboxPolicy owns',
          'persistentvolumeclaims': 'the garbage collector, once it is marked',
          'killswitches': 'people'
        }[?variables.kind].orValue('what an AgentDeployment NAME owns that is called agent-NAME')
  validations:
    - expression: "false"
      messageExpression: |-
        'the operator deletes of ' + variables.kind + ' only what it made itself; accepted is ' + variables.accepted
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "operator-deletions") }}
{{- end }}

{{/* By label, more goes than what somebody looked at: so only where all of a kind is the operator's, and elsewhere one by one. */}}
{{- define "bulkhead.admission.operator-elsewhere" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "operator-elsewhere") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    matchPolicy: Equivalent
    objectSelector: {}
    namespaceSelector:
      matchExpressions:
        - key: bulkhead.dev/sandbox
          operator: NotIn
          values: ["true"]
    resourceRules:
      - apiGroups: ["", apps, networking.k8s.io, rbac.authorization.k8s.io, cilium.io]
        apiVersions: ["*"]
        operations: [DELETE]
        resources: ["*"]
        scope: Namespaced
  {{- include "bulkhead.admission.byOperator" . | nindent 2 }}
    # Of a collection each object is asked about by itself, without a name in the request.
    - name: not-one-of-agents
      expression: |-
        request.?name.orValue('') == '' || (request.resource.resource == 'pods' && !dyn(oldObject).spec.containers.exists(c,
          c.name == 'agent' && c.?env.orValue([]).exists(e, e.name == 'BULKHEAD_AGENT_UID')))
  validations:
    - expression: "false"
      messageExpression: |-
        request.?name.orValue('') == ''
          ? 'the operator deletes many ' + request.resource.resource + ' at once in sandbox namespaces only; accepted in ' +
            request.namespace + ' is one by its name'
          : 'the operator ends pods of agents; accepted are the pods of sandbox namespaces, and elsewhere those made for an agent'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "operator-elsewhere") }}
{{- end }}

{{- define "bulkhead.admission.operator-roles" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "operator-roles") }}
spec:
  failurePolicy: Fail
  {{- include "bulkhead.admission.ofOperator" (list (dict "group" "rbac.authorization.k8s.io" "resources" (list "roles" "rolebindings"))) | nindent 2 }}
  {{- include "bulkhead.admission.byOperator" . | nindent 2 }}
  variables:
    - name: asked
      expression: "request.resource.resource == 'roles' ? dyn(object).?rules.orValue([]) : []"
    {{- include "bulkhead.admission.closedRights" . | nindent 4 }}
  validations:
    {{- include "bulkhead.admission.withinFloorOfRights" "false" | nindent 4 }}
    - expression: |-
        request.resource.resource != 'rolebindings' || (
          dyn(object).roleRef.kind == 'Role' && dyn(object).roleRef.name == object.metadata.name &&
          dyn(object).?subjects.orValue([]).size() == 1 && dyn(object).subjects.all(s,
            s.kind == 'ServiceAccount' && s.name == object.metadata.name && s.?namespace.orValue('') == request.namespace))
      message: >-
        the operator binds agents only; accepted is a RoleBinding agent-NAME of the Role agent-NAME to the ServiceAccount agent-NAME of the
        same namespace
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "operator-roles") }}
{{- end }}

{{- define "bulkhead.admission.operator-role-ceilings" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "operator-role-ceilings") }}
spec:
  failurePolicy: Fail
  paramKind:
    apiVersion: bulkhead.dev/v1alpha1
    kind: SandboxPolicy
  {{- include "bulkhead.admission.ofOperator" (list (dict "group" "rbac.authorization.k8s.io" "resources" (list "roles"))) | nindent 2 }}
  {{- include "bulkhead.admission.byOperator" . | nindent 2 }}
  variables:
    - name: labels
      expression: namespaceObject.metadata.?labels.orValue({})
    - name: applies
      expression: |-
        {{- include "bulkhead.admission.applies" . | nindent 8 }}
    - name: asked
      expression: dyn(object).?rules.orValue([])
    - name: offered
      expression: dyn(params.spec).?identity.?kubernetesApi.?rules.orValue([])
    {{- include "bulkhead.admission.missingRights" . | nindent 4 }}
  validations:
    {{- include "bulkhead.admission.withinOfferedRights" "!variables.applies" | nindent 4 }}
{{ include "bulkhead.admission.binding" (dict "root" . "name" "operator-role-ceilings" "params" true) }}
{{- end }}

{{/* With Cilium an agent with rights reaches the API server by a policy of Cilium's: no CIDR means it there. */}}
{{- define "bulkhead.admission.operator-networks" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "operator-networks") }}
spec:
  failurePolicy: Fail
  {{- include "bulkhead.admission.ofOperator" (list (dict "group" "cilium.io" "resources" (list "ciliumnetworkpolicies"))) | nindent 2 }}
  {{- include "bulkhead.admission.byOperator" . | nindent 2 }}
  variables:
    - name: spec
      expression: dyn(object).?spec.orValue({})
  validations:
    - expression: |-
        !has(dyn(object).specs) && variables.spec.all(k, k in ['description', 'endpointSelector', 'egress', 'enableDefaultDeny']) &&
        variables.spec.?endpointSelector.?matchLabels.orValue({}).exists(k, k.endsWith('bulkhead.dev/agent-uid'))
      message: >-
        accepted of the operator's is a CiliumNetworkPolicy about one agent, by the label bulkhead.dev/agent-uid, with egress rules alone
      reason: Forbidden
    - expression: |-
        variables.spec.?egress.orValue([]).all(r,
          r.all(k, k in ['toEntities', 'toPorts']) && r.?toEntities.orValue([]) == ['kube-apiserver'] &&
          r.?toPorts.orValue([]).size() > 0 && r.toPorts.all(p, p.all(k, k == 'ports') && p.ports.size() > 0 &&
            p.ports.all(o, o.?protocol.orValue('ANY') == 'TCP' && !has(o.endPort) &&
              o.port in ['{{ join "', '" .Values.networkPolicy.apiServerPorts }}'])))
      message: >-
        accepted of the operator's are egress rules to the entity kube-apiserver alone, each with TCP ports of
        {{ join ", " .Values.networkPolicy.apiServerPorts }} (the chart's networkPolicy.apiServerPorts)
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "operator-networks") }}
{{- end }}

{{/* What the operator runs. Pod security of the namespace holds pods too, where its labels are set; this is there in any case. */}}
{{- define "bulkhead.admission.operator-workloads" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "operator-workloads") }}
spec:
  failurePolicy: Fail
  {{- include "bulkhead.admission.ofOperator" (list (dict "group" "apps" "resources" (list "statefulsets"))) | nindent 2 }}
  {{- include "bulkhead.admission.byOperator" . | nindent 2 }}
  variables:
    - name: pod
      expression: dyn(object).spec.template.spec
    - name: containers
      expression: variables.pod.containers + variables.pod.?initContainers.orValue([])
    - name: sources
      expression: |-
        variables.pod.?volumes.orValue([]).filter(v, has(v.projected)).map(v, v.projected.sources)
  validations:
    - expression: |-
        variables.pod.?serviceAccountName.orValue('') == 'agent-' + object.metadata.name &&
        !variables.pod.?automountServiceAccountToken.orValue(true)
      message: >-
        the operator runs agents under their own account; accepted is serviceAccountName agent-NAME with
        automountServiceAccountToken: false
      reason: Forbidden
    - expression: |-
        !variables.pod.?hostNetwork.orValue(false) && !variables.pod.?hostPID.orValue(false) &&
        !variables.pod.?hostIPC.orValue(false) && variables.pod.?securityContext.?runAsNonRoot.orValue(false) &&
        variables.pod.?securityContext.?seccompProfile.?type.orValue('') == 'RuntimeDefault' &&
        ([variables.pod] + variables.containers).all(c, c.?securityContext.?runAsNonRoot.orValue(true) &&
          c.?securityContext.?runAsUser.orValue(1) != 0 &&
          c.?securityContext.?seccompProfile.?type.orValue('RuntimeDefault') == 'RuntimeDefault' &&
          c.?securityContext.?appArmorProfile.?type.orValue('RuntimeDefault') == 'RuntimeDefault' &&
          !has(c.?securityContext.orValue({}).seLinuxOptions)) &&
        variables.containers.all(c, !c.?securityContext.?privileged.orValue(false) &&
          c.?securityContext.?procMount.orValue('Default') == 'Default' &&
          c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0) &&
          !c.?securityContext.?allowPrivilegeEscalation.orValue(true) &&
          c.?securityContext.?capabilities.?drop.orValue([]) == ['ALL'] &&
          c.?securityContext.?capabilities.?add.orValue([]).size() == 0)
      message: the operator runs agents that are restricted; accepted are pods of the restricted pod security standard
      reason: Forbidden
    - expression: "!has(variables.pod.nodeName) && variables.pod.?priorityClassName.orValue('') == ''"
      message: >-
        the operator places no pod by name and before none; accepted are pods without nodeName and priorityClassName
      reason: Forbidden
    # A claim that names its volume, or what it is filled from, brings somebody else's files in.
    - expression: |-
        object.spec.?volumeClaimTemplates.orValue([]).all(t, t.metadata.name == 'workspace' &&
          !has(t.spec.volumeName) && !has(t.spec.dataSource) && !has(t.spec.dataSourceRef) && !has(t.spec.selector))
      message: >-
        the operator gives agents workspaces of their own; accepted are volumeClaimTemplates called workspace that name neither
        volume nor source
      reason: Forbidden
    # The kubelet asks for the node, which nothing keeps from anywhere.
    - expression: |-
        variables.containers.all(c, [c.?lifecycle.?postStart, c.?lifecycle.?preStop, c.?startupProbe, c.?readinessProbe, c.?livenessProbe]
          .all(h, h.?httpGet.?host.orValue('') == '' && h.?tcpSocket.?host.orValue('') == ''))
      message: >-
        the operator sends no kubelet to other hosts; accepted are probes and lifecycle hooks without a host
      reason: Forbidden
    - expression: |-
        variables.pod.?volumes.orValue([]).all(v, has(v.emptyDir) || has(v.projected) ||
          (has(v.secret) && v.secret.secretName.startsWith('agent-' + object.metadata.name + '.'))) &&
        variables.sources.all(sources, sources.all(s, !has(s.secret) && !has(s.podCertificate) &&
          (!has(s.configMap) || s.configMap.name == 'kube-root-ca.crt'))) &&
        variables.containers.all(c, !has(c.envFrom) &&
          c.?env.orValue([]).all(e, !has(e.valueFrom) || has(e.valueFrom.fieldRef)))
      message: >-
        the operator mounts an agent's own leases, tokens and scratch space; accepted as volumes are emptyDir, projected ones without
        Secrets, and Secrets agent-NAME.CREDENTIAL, and as environment values and pod fields
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "operator-workloads") }}
{{- end }}
