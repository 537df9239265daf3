{{/*
What a NetworkPolicy of a sandbox namespace may say, whoever writes it.
*/}}

{{/* The rules of a NetworkPolicy: a list of peers for each. */}}
{{- define "bulkhead.admission.rules" -}}
object.spec.?egress.orValue([]).map(r, r.?to.orValue([])) +
object.spec.?ingress.orValue([]).map(r, r.?from.orValue([]))
{{- end }}

{{- define "bulkhead.admission.network-floor" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "network-floor") }}
spec:
  failurePolicy: Fail
  matchConstraints:
    {{- include "bulkhead.admission.inSandboxes" . | nindent 4 }}
    resourceRules:
      - apiGroups: [networking.k8s.io]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [networkpolicies]
        scope: "*"
  variables:
    - name: rules
      expression: |-
        {{- include "bulkhead.admission.rules" . | nindent 8 }}
    - name: cidrs
      expression: |-
        variables.rules.map(peers, peers.filter(p, has(p.ipBlock)).all(p,
          ([p.ipBlock.cidr] + p.ipBlock.?except.orValue([])).all(c, isCIDR(c) && cidr(c) == cidr(c).masked())))
    - name: floor
      expression: |-
        {{- include "bulkhead.admission.floor" (dict "root" . "list" "closed") | nindent 8 }}
    - name: what
      expression: |-
        {{- include "bulkhead.admission.what" (dict "root" . "list" "closed") | nindent 8 }}
    - name: blocks
      expression: |-
        variables.rules.map(peers, peers.filter(p, has(p.ipBlock) && isCIDR(p.ipBlock.cidr)).map(p, p.ipBlock)
          .map(p, {{ include "bulkhead.admission.parsed" . }}))
    - name: reached
      expression: |-
        variables.blocks.map(blocks, blocks.map(b,
          {{- include "bulkhead.admission.reached" (dict "networks" "variables.floor" "more" "' (' + variables.what[string(n)] + ')'") | nindent 10 }}
        ).filter(s, s != '').join(', ')).filter(s, s != '')
  validations:
    - expression: variables.rules.all(peers, peers.size() > 0)
      message: a rule without `to` or `from` reaches everything; accepted are rules with at least one peer
      reason: Forbidden
    - expression: |-
        variables.rules.all(peers, peers.all(p, has(p.ipBlock) ||
          (p.?podSelector.?matchLabels.orValue({}).size() > 0 && (!has(p.namespaceSelector) ||
            (p.namespaceSelector.?matchLabels.orValue({}).size() == 1 &&
             'kubernetes.io/metadata.name' in p.namespaceSelector.matchLabels &&
             p.namespaceSelector.?matchExpressions.orValue([]).size() == 0)))))
      message: >-
        accepted as a peer are an ipBlock, a podSelector with matchLabels, and such a podSelector together with a namespaceSelector
        that has the one label kubernetes.io/metadata.name
      reason: Forbidden
    - expression: variables.cidrs.all(c, c)
      message: accepted in an ipBlock are networks without host bits that are not IPv4-mapped IPv6
      reason: Forbidden
    - expression: variables.reached.size() == 0
      messageExpression: |-
        variables.reached.join('; ') +
        '; no policy opens these addresses, accepted is a network outside of each, or with one `except` that contains it'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "network-floor") }}
{{- end }}

{{- define "bulkhead.admission.network-production" -}}
{{ include "bulkhead.admission.policy" (dict "root" . "name" "network-production") }}
spec:
  failurePolicy: Fail
  paramKind:
    apiVersion: bulkhead.dev/v1alpha1
    kind: SandboxPolicy
  matchConstraints:
    {{- include "bulkhead.admission.inSandboxes" . | nindent 4 }}
    resourceRules:
      - apiGroups: [networking.k8s.io]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [networkpolicies]
        scope: "*"
  variables:
    - name: labels
      expression: namespaceObject.metadata.?labels.orValue({})
    - name: applies
      expression: |-
        {{- include "bulkhead.admission.applies" . | nindent 8 }}
    - name: rules
      expression: |-
        {{- include "bulkhead.admission.rules" . | nindent 8 }}
    - name: production
      expression: |-
        {{- include "bulkhead.admission.production" . | nindent 8 }}
    - name: opened
      expression: params.spec.?network.?openSharedAddressSpace.orValue([])
    - name: shared
      expression: |-
        {{- include "bulkhead.admission.floor" (dict "root" . "list" "openable") | nindent 8 }}
    # What is no network at all, the policy of the floor refuses.
    - name: blocks
      expression: |-
        variables.rules.map(peers, peers.filter(p, has(p.ipBlock) && isCIDR(p.ipBlock.cidr)).map(p, p.ipBlock)
          .map(p, {{ include "bulkhead.admission.parsed" . }}))
    - name: reached
      expression: |-
        variables.blocks.map(blocks, blocks.map(b,
          {{- include "bulkhead.admission.reached" (dict "networks" "variables.production") | nindent 10 }}
        ).filter(s, s != '').join(', ')).filter(s, s != '')
    - name: unopened
      expression: |-
        variables.blocks.map(blocks, blocks.filter(b, !variables.opened.exists(o, cidr(o).containsCIDR(b.cidr)) &&
          variables.shared.exists(n, {{ include "bulkhead.admission.overlaps" . }} &&
            !b.except.exists(e, isCIDR(e) && cidr(e).containsCIDR(n)))
        ).map(b, string(b.cidr)).join(', ')).filter(s, s != '')
    - name: namespaces
      expression: |-
        variables.rules.map(peers, peers.filter(p, !has(p.ipBlock)).map(p,
          p.?namespaceSelector.?matchLabels[?'kubernetes.io/metadata.name'].orValue(request.namespace)
        ).filter(n, n in params.?status.?productionNamespaces.orValue([])).join(', ')).filter(s, s != '')
  validations:
    - expression: "!variables.applies || variables.reached.size() == 0"
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (production.cidrs): ' + variables.reached.join('; ') +
        '; accepted is a network outside of production, or with one `except` that contains each network of it'
      reason: Forbidden
    - expression: "!variables.applies || variables.unopened.size() == 0"
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (network.openSharedAddressSpace): ' + variables.unopened.join(', ') +
        ' reaches shared address space; accepted is a network ' +
        (variables.opened.size() == 0 ? 'outside of ' + variables.shared.map(n, string(n)).join(', ')
                                      : 'inside of one of ' + variables.opened.join(', '))
      reason: Forbidden
    - expression: "!variables.applies || variables.namespaces.size() == 0"
      messageExpression: |-
        'SandboxPolicy ' + params.metadata.name + ' (production.namespaceSelector): ' + variables.namespaces.join(', ') +
        ' is production; accepted are pods of other namespaces'
      reason: Forbidden
{{ include "bulkhead.admission.binding" (dict "root" . "name" "network-production" "params" true) }}
{{- end }}
