// Reads a line of {policies, requests} from standard input, writes a line with one [result, blockedBy] a request.
// Policies are given once and named by the requests, which are many.
import { createInterface } from 'node:readline'
import {
  createValidatedPolicy,
  validateEndpointPolicy,
  validateIdentityPolicy,
  validateResourcePolicy,
} from '@cloud-copilot/iam-policy'
import { runSimulation } from '@cloud-copilot/iam-simulate'

// Each policy is validated once, as what it is used for.
function remembering(validate) {
  const known = new Map()
  return (policy) => {
    const text = JSON.stringify(policy)
    if (!known.has(text)) known.set(text, createValidatedPolicy(policy, validate, { name: `policy-${known.size}` }))
    return known.get(text)
  }
}
const identity = remembering(validateIdentityPolicy)
const resource = remembering(validateResourcePolicy)
const endpoint = remembering(validateEndpointPolicy)

async function evaluate(request, policies) {
  const named = (names, read) => names.map((name) => ({ name, policy: read(policies[name]) }))
  const simulation = {
    request: {
      principal: request.principal,
      action: request.action,
      resource: { resource: request.resource, accountId: request.account },
      contextVariables: request.context,
    },
    identityPolicies: named(request.identity, identity),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: request.resource_policy === null ? undefined : resource(policies[request.resource_policy]),
    permissionBoundaryPolicies: request.boundary === null ? undefined : named(request.boundary, identity),
    vpcEndpointPolicies: request.endpoint === null ? undefined : named(request.endpoint, endpoint),
    additionalSettings: { s3: { bucketAbacEnabled: request.s3_tags } },
  }
  const done = await runSimulation(simulation, { simulationMode: 'Strict' })
  if (done.resultType === 'error') {
    return ['Error', done.errors ? [done.errors.message] : []]
  }
  const analysis = (done.result ?? done.results?.[0])?.analysis
  return [done.overallResult, analysis?.blockedBy ?? []]
}

for await (const line of createInterface({ input: process.stdin })) {
  const { policies, requests } = JSON.parse(line)
  const results = []
  for (const request of requests) results.push(await evaluate(request, policies))
  process.stdout.write(`${JSON.stringify(results)}\n`)
}
