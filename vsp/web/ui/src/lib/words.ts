/**
 * From the platform's words to the operator's. A failed leg, a gap's cause and an error's kind are
 * closed lists with words of our own in both languages; details are shown as they came.
 */
import { i18n } from '@/i18n'
import type { Alarm, ApiError } from '@/api'

export const LEGS = [
  'permission',
  'device_offline',
  'worker',
  'no_sip_answer',
  'refused',
  'bad_answer',
  'no_media',
  'foreign_media',
  'destination_refused',
  'not_decodable',
] as const
export type Leg = (typeof LEGS)[number]

export const GAP_CAUSES = [
  'device_offline',
  'device_refuses',
  'no_media',
  'platform_restart',
  'worker_lost',
  'storage_failure',
  'not_planned',
  'unexplained',
] as const

export interface CauseWords {
  leg: Leg | null
  title: string
  /** The bare fact as the platform wrote it, to be found again in a trace. */
  detail: string
}

/** `<leg>: <detail>` as the platform writes it -> the leg's words and the detail. */
export function causeWords(cause: string, leg?: string | null): CauseWords {
  const match = /^([a-z_]+)(?::\s*(.*))?$/s.exec(cause)
  const named = LEGS.find((known) => known === (leg || match?.[1]))
  if (!named) return { leg: null, title: '', detail: cause }
  const detail = match?.[1] === named ? (match[2] ?? '') : cause
  return { leg: named, title: i18n.global.t(`leg.${named}.title`), detail }
}

export function nextStepWords(leg: Leg | null, given: string): string {
  return leg ? i18n.global.t(`leg.${leg}.next`) : given
}

/** What a media worker says of a hole that it meets without knowing why. */
const WORKER_GAPS: Record<string, string> = {
  'nothing recorded': 'nothing',
  'a stored segment cannot be read': 'unreadable',
}

export function gapWords(cause: string): string {
  const known = (GAP_CAUSES as readonly string[]).includes(cause) ? cause : WORKER_GAPS[cause]
  return known ? i18n.global.t(`gap.${known}`) : cause
}

export const ALARM_KINDS = ['database', 'objects', 'store', 'spool', 'journal'] as const

export interface AlarmWords {
  title: string
  /** Which process, where there are several. */
  where: string
  /** What it means for those who work here. */
  effect: string
}

export function alarmWords(alarm: Pick<Alarm, 'kind' | 'subject'>): AlarmWords {
  const { t } = i18n.global
  const worker = /^worker:(\d+)$/.exec(alarm.subject)
  const where = worker ? t('alarm.worker', { n: worker[1]! }) : ''
  const known = (ALARM_KINDS as readonly string[]).includes(alarm.kind)
  if (!known) return { title: alarm.kind, where, effect: '' }
  return { title: t(`alarm.kind.${alarm.kind}.title`), where, effect: t(`alarm.kind.${alarm.kind}.effect`) }
}

/** What the player says of itself when the network or the browser is the reason. */
export function playerReason(reason: string): string {
  const key = `player.reason.${reason}`
  return i18n.global.te(key, 'zh') ? i18n.global.t(key) : reason
}

export interface ErrorWords {
  title: string
  cause: string
  nextStep: string
}

/** Sentence for a person: what happened, why, what next. */
export function errorWords(error: ApiError): ErrorWords {
  const { t } = i18n.global
  if (error.kind === 'network') {
    return {
      title: t(`error.network.${error.message === 'timeout' ? 'timeout' : 'unreachable'}`),
      cause: '',
      nextStep: t('error.network.next'),
    }
  }
  const { leg, title, detail } = causeWords(error.cause)
  return {
    title: title || `${t(`error.kind.${error.kind}`)}${t('colon')}${error.message}`,
    cause: title ? detail : error.cause,
    nextStep: nextStepWords(leg, error.nextStep),
  }
}
