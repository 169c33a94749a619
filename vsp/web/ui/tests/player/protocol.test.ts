import { describe, expect, test } from 'vitest'
import { parseMessage } from '@/player/protocol'

describe('messages of the media socket', () => {
  test('a clock has media seconds and an instant', () => {
    const text = '{"type":"clock","media_s":1.5,"time":"2026-11-22T02:00:00.250Z"}'

    expect(parseMessage(text)).toEqual({
      type: 'clock',
      mediaS: 1.5,
      timeMs: Date.UTC(2026, 10, 22, 2, 0, 0, 250),
    })
  })

  test('a seek tells where it begins and which picture is meant', () => {
    const text =
      '{"type":"seek","seq":3,"time":"2026-11-22T02:00:00.000Z","media_s":4,' +
      '"target":"2026-11-22T02:00:01.000Z","target_media_s":5}'

    expect(parseMessage(text)).toMatchObject({ seq: 3, mediaS: 4, targetMediaS: 5 })
  })

  test('a seek without a target is still a seek', () => {
    expect(parseMessage('{"type":"seek","seq":3}')).toMatchObject({
      seq: 3,
      mediaS: null,
      targetMs: null,
    })
  })

  test('stats lack nothing: what is not said is zero or unknown', () => {
    expect(parseMessage('{"type":"stats","bits_per_s":4000000}')).toEqual({
      type: 'stats',
      bits_per_s: 4_000_000,
      frames_per_s: 0,
      lost: 0,
      jitter_ms: null,
      width: 0,
      height: 0,
      codec: '',
    })
  })

  test.each([
    'no json',
    '7',
    'null',
    '"text"',
    '{}',
    '{"type":"unheard of"}',
    '{"type":"clock","media_s":"1","time":"2026-11-22T02:00:00Z"}',
    '{"type":"clock","media_s":1,"time":"yesterday"}',
    '{"type":"seek","seq":"1"}',
    '{"type":"position","time":"x"}',
    '{"type":"init","mime":7}',
    '{"type":"toString"}',
  ])('%s means nothing', (text) => {
    expect(parseMessage(text)).toBeNull()
  })
})
