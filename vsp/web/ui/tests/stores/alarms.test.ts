/** The list of standing alarms follows the feed, and an old answer never hides a new one. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { api, type Alarm, type List } from '@/api'
import { feed, RESYNC, type FeedEvent } from '@/api/events'
import { alarms, watchAlarms } from '@/stores/alarms'

const FULL: Alarm = { kind: 'spool', subject: 'worker:0', cause: 'No space left', since: '2026-01-01T00:00:00Z', until: null }
const list = (...items: Alarm[]): List<Alarm> => ({ items, next: null, total: items.length })

let tell: (event: FeedEvent) => void
let unlistened = false

beforeEach(() => {
  vi.useFakeTimers()
  vi.stubGlobal('window', globalThis)
  alarms.value = []
  unlistened = false
  vi.spyOn(feed, 'listen').mockImplementation((listener) => {
    tell = listener
    return () => {
      unlistened = true
      return true
    }
  })
})

afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllGlobals()
  vi.useRealTimers()
})

/** The platform's answers, in turn; the last one again and again. */
function answers(...lists: List<Alarm>[]): void {
  vi.spyOn(api, 'alarms').mockImplementation(async () => (lists.length > 1 ? lists.shift()! : lists[0]!))
}

const settle = () => vi.advanceTimersByTimeAsync(0)

test('what stands is there right after the page opens', async () => {
  answers(list(FULL))

  const unwatch = watchAlarms()
  await settle()

  expect(alarms.value).toEqual([FULL])
  unwatch()
})

test.each(['alarm', RESYNC])('the word %s has the list read again', async (type) => {
  answers(list(), list(FULL))
  const unwatch = watchAlarms()
  await settle()

  tell({ type })
  await settle()

  expect(alarms.value).toEqual([FULL])
  unwatch()
})

test('other words do not', async () => {
  answers(list(), list(FULL))
  const unwatch = watchAlarms()
  await settle()

  tell({ type: 'presence' })
  await settle()

  expect(alarms.value).toEqual([])
  unwatch()
})

test('a lost word is healed by the poll, and nothing is asked once the watch is over', async () => {
  answers(list(FULL), list())
  const unwatch = watchAlarms()
  await settle()
  await vi.advanceTimersByTimeAsync(10_000)
  expect(alarms.value).toEqual([])

  unwatch()
  await vi.advanceTimersByTimeAsync(60_000)

  expect(api.alarms).toHaveBeenCalledTimes(2)
  expect(unlistened).toBe(true)
})

test('while the platform does not answer, what was known stands', async () => {
  answers(list(FULL))
  const unwatch = watchAlarms()
  await settle()

  vi.spyOn(api, 'alarms').mockRejectedValue(new Error('unreachable'))
  tell({ type: 'alarm' })
  await settle()

  expect(alarms.value).toEqual([FULL])
  unwatch()
})

test('an answer that is overtaken by a later one is not taken', async () => {
  let answerLate = (_: List<Alarm>) => {}
  const late = new Promise<List<Alarm>>((resolve) => (answerLate = resolve))
  vi.spyOn(api, 'alarms').mockReturnValueOnce(late).mockResolvedValue(list())
  const unwatch = watchAlarms()

  tell({ type: 'alarm' })
  await settle()
  answerLate(list(FULL))
  await settle()

  expect(alarms.value).toEqual([])
  unwatch()
})
