// A small shop that sends with analytics-node: node shop.mjs URL COUNT; prints what failed as JSON.
import { Analytics } from '@segment/analytics-node'

const [url, count] = [process.argv[2], Number(process.argv[3])]
const failures = []
const analytics = new Analytics({ writeKey: 'website', host: url, flushAt: 15, flushInterval: 200, maxRetries: 10 })
analytics.on('error', (error) => failures.push(String(error.reason ?? error.code ?? error)))

const userId = 'u1'
analytics.identify({ userId, traits: { email: 'ada@example.com' }, messageId: 'i1' })
analytics.track({ userId, event: 'Demo Requested', properties: { plan: 'pro', price: 12.5 }, messageId: 't1' })
analytics.page({ userId, category: 'Docs', name: 'Home', properties: { url: 'https://shop.example/' }, messageId: 'p1' })
analytics.screen({ userId, name: 'Start', messageId: 's1' })
analytics.group({ userId, groupId: 'g1', traits: { name: 'Acme' }, messageId: 'g1' })
analytics.alias({ userId, previousId: 'anonymous-1', messageId: 'a1' })
for (let n = 0; n < count; n += 1) {
  analytics.track({ anonymousId: 'visitor', event: 'Product Viewed', properties: { n }, messageId: `m${n}` })
}
await analytics.closeAndFlush({ timeout: 60_000 })
console.log(JSON.stringify(failures))
