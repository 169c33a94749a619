import { afterEach, describe, expect, test } from 'vitest'
import { ApiError } from '@/api/client'
import { i18n } from '@/i18n'
import { alarmWords, causeWords, errorWords, gapWords, nextStepWords } from '@/lib/words'

afterEach(() => {
  i18n.global.locale.value = 'zh'
})

describe('a failed leg', () => {
  test('is told in words, its detail kept for the trace', () => {
    expect(causeWords('no_media: no packet on port 30000 within 10 s')).toEqual({
      leg: 'no_media',
      title: '信令成功但没有收到码流',
      detail: 'no packet on port 30000 within 10 s',
    })
  })

  test('may be named beside the cause', () => {
    expect(causeWords('486 Busy Here', 'refused')).toMatchObject({ leg: 'refused', detail: '486 Busy Here' })
  })

  test('that we do not know is shown as it came', () => {
    expect(causeWords('strange: thing')).toEqual({ leg: null, title: '', detail: 'strange: thing' })
  })

  test('brings its own next step in the language of the page', () => {
    i18n.global.locale.value = 'en'

    expect(nextStepWords('device_offline', 'x')).toContain('power and network')
    expect(nextStepWords(null, 'as given')).toBe('as given')
  })
})

describe('an alarm', () => {
  test('says what is refused, to which process, and what that means', () => {
    expect(alarmWords({ kind: 'spool', subject: 'worker:1' })).toEqual({
      title: '录像暂存无法写入',
      where: '媒体进程 1',
      effect: '新录像暂存内存，存满后将缺失；实时观看不受影响',
    })
  })

  test('of the node needs no place, for there is one', () => {
    i18n.global.locale.value = 'en'

    expect(alarmWords({ kind: 'database', subject: 'node' })).toMatchObject({ title: 'Database cannot be written', where: '' })
  })

  test('that we do not know is shown as it came', () => {
    expect(alarmWords({ kind: 'comet', subject: 'sky' })).toEqual({ title: 'comet', where: '', effect: '' })
  })
})

test('gaps are told in words, unknown causes as they came', () => {
  expect(gapWords('storage_failure')).toBe('存储故障')
  expect(gapWords('nothing recorded')).toBe('没有录像')
  expect(gapWords('a comet')).toBe('a comet')
})

describe('an error', () => {
  test('says kind, message, cause and next step', () => {
    const words = errorWords(new ApiError('conflict', 409, 'taken', 'by D1', 'choose another'))

    expect(words).toEqual({ title: '已存在或有冲突：taken', cause: 'by D1', nextStep: 'choose another' })
  })

  test('of a leg says the leg', () => {
    expect(errorWords(new ApiError('unavailable', 503, 'm', 'device_offline: no keepalive')).title).toBe('设备离线')
  })

  test('of the network needs no server to explain it', () => {
    expect(errorWords(new ApiError('network', 0, 'timeout')).title).toBe('平台迟迟没有应答')
  })
})
