// Reads {policies, requests} from standard input, writes one [result, blockedBy] a request.
// Policies are given once and named by the requests, which are many.
import {
  createValidatedPolicy,
  validateEndpointPolicy,
  validateIdentityPolicy,
  validateResourcePolicy,
} from '@cloud-copilot/iam-policy'
import { runSimulation } from '@cloud-copilot/iam-simulate'

async function standardInput() {
  const chunks = []
  for await (const chunk of process.stdin) chunks.push(chunk)
  return JSON.parse(Buffer.concat(chunks).toString('utf8'))
}

const { policies, requests } = await standardInput()

// Each policy is validated once, as what it is used for.
function remembering(validate) {
  const known = new Map()
  return (name) => {
    if (!known.has(name)) known.set(name, createValidatedPolicy(policies[name], validate, { name }))
    return known.get(name)
  }
}
const identity = remembering(validateIdentityPolicy)
const resource = remembering(validateResourcePolicy)
const endpoint = remembering(validateEndpointPolicy)
const named = (names, read) => names.map((name) => ({ name, policy: read(name) }))

async function evaluate(request) {
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
    resourcePolicy: request.resource_policy === null ? undefined : resource(request.resource_policy),
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

const results = []
for (const request of requests) results.push(await evaluate(request))
process.stdout.write(JSON.stringify(results))
