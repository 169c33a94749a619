/** The small helpers: back-off, passwords, CSV, times as typed, figures as read. */
import { describe, expect, test } from 'vitest'
import { BACKOFF_FIRST_MS, BACKOFF_MAX_MS, backoffMs } from '@/lib/backoff'
import { decodeCsv, toCsv } from '@/lib/csv'
import { durationParts, rate, rateLong, shortCode } from '@/lib/format'
import { gbIdFault, gbIdKind } from '@/lib/gbid'
import { newPassword, PASSWORD_LENGTH } from '@/lib/password'
import { parseTimeOfDay } from '@/lib/timetext'

describe('back-off', () => {
  test('doubles up to its bound and is spread by a fifth', () => {
    expect(backoffMs(0, 0.5)).toBe(BACKOFF_FIRST_MS)
    expect(backoffMs(1, 0.5)).toBe(2 * BACKOFF_FIRST_MS)
    expect(backoffMs(50, 0.5)).toBe(BACKOFF_MAX_MS)
    expect(backoffMs(0, 0)).toBe(BACKOFF_FIRST_MS * 0.8)
    expect(backoffMs(0, 0.999)).toBeLessThanOrEqual(BACKOFF_FIRST_MS * 1.2)
  })
})

describe('passwords', () => {
  test('have the length, all three classes, and no letters that look alike', () => {
    for (let n = 0; n < 200; n++) {
      const password = newPassword()

      expect(password).toHaveLength(PASSWORD_LENGTH)
      expect(password).toMatch(/[a-z]/)
      expect(password).toMatch(/[A-Z]/)
      expect(password).toMatch(/[0-9]/)
      expect(password).not.toMatch(/[0O1lI]/)
    }
  })

  test('bytes that would favour a letter are thrown away', () => {
    const served = [new Uint8Array(32).fill(255), Uint8Array.from({ length: 32 }, (_, n) => n * 7)]

    expect(newPassword(() => served.shift() ?? crypto.getRandomValues(new Uint8Array(32)))).toHaveLength(16)
  })
})

describe('CSV', () => {
  test('begins with a mark for spreadsheets and quotes what needs it', () => {
    expect(toCsv(['a', 'b'], [['x,y', 'say "hi"']])).toBe('\ufeffa,b\r\n"x,y","say ""hi"""\r\n')
  })

  test.each(['=1+1', '+1', '-1', '@x'])('%s cannot become a formula', (cell) => {
    expect(toCsv(['a'], [[cell]])).toContain(`'${cell}`)
  })

  test('files of Chinese spreadsheets are read although they are not UTF-8', () => {
    const gb18030 = Uint8Array.from([0xb6, 0xab, 0xc3, 0xc5]).buffer // 东门

    expect(decodeCsv(gb18030)).toBe('东门')
    expect(decodeCsv(new TextEncoder().encode('\ufeff东门').buffer)).toBe('东门')
  })
})

describe('a typed time', () => {
  test.each([
    ['9', 9 * 3600],
    ['930', 9 * 3600 + 30 * 60],
    ['9:30', 9 * 3600 + 30 * 60],
    ['09：30：15', 9 * 3600 + 30 * 60 + 15],
    ['093015', 9 * 3600 + 30 * 60 + 15],
    [' 23.59.59 ', 86_399],
    ['0', 0],
  ])('%s is understood', (text, seconds) => {
    expect(parseTimeOfDay(text)).toBe(seconds * 1000)
  })

  test.each(['', 'noon', '24', '9:60', '1:2:3:4', '9:', '1234567', '-1'])('%s is not', (text) => {
    expect(parseTimeOfDay(text)).toBeNull()
  })
})

describe('figures', () => {
  test('bit rates are short in tiles and long in tables', () => {
    expect([rate(512_000), rate(4_020_000), rate(212e6), rate(1.2e9), rate(null)]).toEqual(['512k', '4.0M', '212M', '1.20G', '–'])
    expect([rateLong(4_020_000), rateLong(512_000)]).toEqual(['4.02 Mbit/s', '512 kbit/s'])
  })

  test('durations choose the unit that a person would', () => {
    expect(durationParts(59_000)).toEqual({ key: 'seconds', n: 59 })
    expect(durationParts(480_000)).toEqual({ key: 'minutes', n: 8 })
    expect(durationParts(90 * 60_000)).toEqual({ key: 'hours', n: 2 })
    expect(durationParts(-5)).toEqual({ key: 'seconds', n: 0 })
  })

  test('a code is shortened to its ends', () => {
    expect(shortCode('34020000001310000001')).toBe('3402…000001')
  })
})

describe('GB codes', () => {
  test('have twenty digits, and say what they are', () => {
    expect(gbIdFault('34020000001320000001')).toBeNull()
    expect(gbIdFault('3402')).toBe('length')
    expect(gbIdFault('3402000000132000000x')).toBe('digits')
    expect(gbIdKind('34020000001320000001')).toBe('camera')
    expect(gbIdKind('34020000001180000001')).toBe('recorder')
    expect(gbIdKind('34020000002000000001')).toBe('platform')
    expect(gbIdKind('34020000009990000001')).toBe('other')
  })
})
