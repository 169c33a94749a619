/** Every endpoint that the console uses, by name. */
import { request } from './client'
import type {
  Alarm,
  ApproveResult,
  Attempt,
  AuditRow,
  Candidate,
  CatalogDiff,
  Channel,
  Device,
  DevicePatch,
  ImportResult,
  List,
  NewDevice,
  Overview,
  Presence,
  PresencePoint,
  RecordPlan,
  Region,
  Session,
  StreamStatus,
  Timeline,
  TraceLine,
  ViewTicket,
} from './types'

export * from './types'
export { ApiError, asApiError } from './client'

interface PageQuery {
  size?: number
  after?: string | null
  q?: string
}

const id = encodeURIComponent

export const api = {
  health: () => request<{ status: string; version: string; now: string }>('GET', '/health'),

  session: () => request<Session>('GET', '/session'),
  signIn: (user: string, password: string, totp?: string) =>
    request<Session>('POST', '/session', { body: { user, password, ...(totp ? { totp } : {}) } }),
  signOut: () => request<void>('DELETE', '/session'),
  changePassword: (old: string, next: string) =>
    request<void>('POST', '/session/password', { body: { old, new: next } }),

  overview: () => request<Overview>('GET', '/overview'),
  /** Those that stand, oldest first. */
  alarms: () => request<List<Alarm>>('GET', '/alarms'),
  /** Those that stood at some time from then on, newest first. */
  alarmsSince: (from: string) => request<List<Alarm>>('GET', '/alarms', { query: { from } }),
  streams: () => request<List<StreamStatus>>('GET', '/streams'),
  regions: () => request<List<Region>>('GET', '/regions'),

  devices: (page: PageQuery & { presence?: Presence | '' } = {}) =>
    request<List<Device>>('GET', '/devices', { query: { ...page } }),
  device: (device: string) => request<Device>('GET', `/devices/${id(device)}`),
  addDevice: (device: NewDevice) => request<Device>('POST', '/devices', { body: device }),
  patchDevice: (device: string, patch: DevicePatch) =>
    request<Device>('PATCH', `/devices/${id(device)}`, { body: patch }),
  removeDevice: (device: string) => request<void>('DELETE', `/devices/${id(device)}`),
  importDevices: (csv: string) =>
    request<ImportResult>('POST', '/devices:import', { text: { type: 'text/csv', data: csv } }),
  trace: (device: string, limit = 500) =>
    request<{ items: TraceLine[] }>('GET', `/devices/${id(device)}/trace`, { query: { limit } }),
  refreshCatalog: (device: string) =>
    request<CatalogDiff>('POST', `/devices/${id(device)}/catalog`, { timeoutMs: 120_000 }),
  deviceInfo: (device: string) =>
    request<Record<string, unknown>>('GET', `/devices/${id(device)}/info`),
  deviceStatus: (device: string) =>
    request<Record<string, unknown>>('GET', `/devices/${id(device)}/status`),
  history: (device: string) =>
    request<{ items: PresencePoint[] }>('GET', `/devices/${id(device)}/history`),

  candidates: (page: PageQuery = {}) =>
    request<List<Candidate>>('GET', '/candidates', { query: { ...page } }),
  approve: (items: { gb_id: string; password: string; name?: string }[]) =>
    request<ApproveResult>('POST', '/candidates:approve', { body: { items } }),
  dismiss: (gbIds: string[]) =>
    request<void>('POST', '/candidates:dismiss', { body: { gb_ids: gbIds } }),

  channels: (page: PageQuery & { device?: string } = {}) =>
    request<List<Channel>>('GET', '/channels', { query: { ...page } }),
  channel: (channel: string) => request<Channel>('GET', `/channels/${id(channel)}`),
  patchChannel: (channel: string, patch: { record_plan?: RecordPlan; name?: string }) =>
    request<Channel>('PATCH', `/channels/${id(channel)}`, { body: patch }),
  attempts: (channel: string) =>
    request<{ items: Attempt[] }>('GET', `/channels/${id(channel)}/attempts`),
  timeline: (channel: string, from: string, to: string, signal?: AbortSignal) =>
    request<Timeline>('GET', `/channels/${id(channel)}/timeline`, { query: { from, to }, signal }),

  openLive: (channel: string) =>
    request<ViewTicket>('POST', `/channels/${id(channel)}/live`, { body: {} }),
  openPlayback: (channel: string, start: string, end?: string) =>
    request<ViewTicket>('POST', `/channels/${id(channel)}/playback`, {
      body: { start, ...(end ? { end } : {}) },
    }),
  closeView: (view: string) => request<void>('DELETE', `/views/${id(view)}`),

  audit: (page: PageQuery = {}) => request<List<AuditRow>>('GET', '/audit', { query: { ...page } }),
}
