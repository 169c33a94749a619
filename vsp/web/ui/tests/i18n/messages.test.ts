/** Both languages say the same things, and every word that a page asks for exists. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import en from '@/i18n/en.json'
import zh from '@/i18n/zh.json'
import { ALARM_KINDS, GAP_CAUSES, LEGS } from '@/lib/words'

type Tree = { [key: string]: string | Tree }

function flat(tree: Tree, prefix = ''): Map<string, string> {
  const words = new Map<string, string>()
  for (const [key, value] of Object.entries(tree)) {
    if (typeof value === 'string') words.set(prefix + key, value)
    else for (const [inner, word] of flat(value, `${prefix}${key}.`)) words.set(inner, word)
  }
  return words
}

const ZH = flat(zh)
const EN = flat(en)
const SRC = fileURLToPath(new URL('../../src', import.meta.url))

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return sources(path)
    return /\.(vue|ts)$/.test(entry.name) ? [readFileSync(path, 'utf8')] : []
  })
}

const placeholders = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]!).sort()

describe('the two languages', () => {
  test('have the same keys', () => {
    expect([...EN.keys()].sort()).toEqual([...ZH.keys()].sort())
  })

  test('leave nothing empty', () => {
    for (const words of [ZH, EN]) for (const [key, text] of words) expect(text, key).not.toBe('')
  })

  test('fill in the same places', () => {
    for (const [key, text] of ZH) expect(placeholders(EN.get(key) ?? ''), key).toEqual(placeholders(text))
  })

  test('Chinese is Chinese where English has words', () => {
    const names = /^[\s\w.,:/…←↑↓→·()+-]*$/
    const untranslated = [...ZH].filter(([key, text]) => names.test(text) && /[a-z]{4}/.test(EN.get(key) ?? ''))

    expect(untranslated.map(([key]) => key).filter((key) => !ALIKE.has(key))).toEqual([])
  })

  test('use no sign that the message format would take for syntax', () => {
    for (const words of [ZH, EN]) for (const [key, text] of words) expect(text, key).not.toMatch(/[@|]/)
  })
})

/** Words that are the same in every language. */
const ALIKE = new Set(['wall.key.enter', 'media_transport.udp'])

describe('every word asked for exists', () => {
  test('literal keys in the sources', () => {
    const asked = new Set<string>()
    for (const text of sources(SRC)) {
      for (const match of text.matchAll(/(?<![\w.])\$?t\(\s*'([a-z_0-9.]+)'/g)) asked.add(match[1]!)
    }

    expect(asked.size).toBeGreaterThan(150)
    expect([...asked].filter((key) => !ZH.has(key))).toEqual([])
  })

  test('families of keys made from closed lists', () => {
    const states = ['empty', 'idle', 'signalling', 'waiting_media', 'waiting_keyframe', 'playing', 'paused', 'stalled', 'ended', 'offline', 'denied', 'unsupported', 'failed', 'suspended']
    const kinds = ['invalid', 'denied', 'not_found', 'conflict', 'unsupported', 'exhausted', 'unavailable', 'data_loss', 'internal']
    const wanted = [
      ...states.map((state) => `player.state.${state}`),
      ...kinds.map((kind) => `error.kind.${kind}`),
      ...LEGS.flatMap((leg) => [`leg.${leg}.title`, `leg.${leg}.next`]),
      ...GAP_CAUSES.map((cause) => `gap.${cause}`),
      ...ALARM_KINDS.flatMap((kind) => [`alarm.kind.${kind}.title`, `alarm.kind.${kind}.effect`]),
      ...['online', 'offline', 'unknown'].map((presence) => `presence.${presence}`),
      ...['camera', 'recorder', 'platform', 'other'].map((kind) => `device_kind.${kind}`),
      ...['udp', 'tcp_passive', 'tcp_active'].map((way) => `media_transport.${way}`),
      ...['admin', 'operator', 'auditor'].map((role) => `role.${role}`),
      ...['seconds', 'minutes', 'hours', 'days'].map((unit) => `duration.${unit}`),
    ]

    expect(wanted.filter((key) => !ZH.has(key))).toEqual([])
  })
})
