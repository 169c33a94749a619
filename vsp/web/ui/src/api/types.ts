/** What the HTTP API v1 says, as types. Instants are RFC 3339 strings in UTC with `Z`. */

export type Instant = string

export type Presence = 'online' | 'offline' | 'unknown'
export type RecordPlan = 'always' | 'none'
export type Transport = 'udp' | 'tcp'
export type MediaTransport = 'udp' | 'tcp_passive' | 'tcp_active'
export type Charset = 'gb2312' | 'gbk' | 'gb18030' | 'utf-8'
export type DigestAlgorithm = 'MD5' | 'SHA-256' | 'SM3'
export type Role = 'admin' | 'operator' | 'auditor'

export type ErrorKind =
  | 'invalid'
  | 'denied'
  | 'not_found'
  | 'conflict'
  | 'unsupported'
  | 'exhausted'
  | 'unavailable'
  | 'data_loss'
  | 'internal'
  /** The request never reached the platform: our own word, not the server's. */
  | 'network'

export interface ErrorBody {
  kind: ErrorKind
  message: string
  cause: string
  next_step: string
}

export interface List<T> {
  items: T[]
  next: string | null
  total: number | null
}

export interface User {
  id?: string
  name: string
  display_name: string
  role: Role
  must_change_password: boolean
}

export interface Session {
  user: User
  expires_at: Instant
  token?: string
}

export interface CatalogProgress {
  received: number
  expected: number | null
  complete: boolean
  at: Instant | null
}

export interface DeviceSettings {
  auth_username: string | null
  transport: Transport | null
  media_transport: MediaTransport | null
  charset: Charset
  version: string | null
  digest: DigestAlgorithm
  keepalive_interval_s?: number | null
  keepalive_misses?: number | null
  send_date?: boolean
}

export interface Device {
  id: string
  gb_id: string
  name: string
  kind: 'camera' | 'recorder' | 'platform' | 'other'
  presence: Presence
  presence_since: Instant
  address: string | null
  transport: Transport | null
  last_seen: Instant | null
  expires_at: Instant | null
  manufacturer: string
  model: string
  firmware: string
  user_agent: string
  gb_version: string
  channels: number
  catalog: CatalogProgress
  settings: DeviceSettings
}

export interface NewDevice {
  gb_id: string
  password: string
  name?: string
  auth_username?: string
  transport?: Transport
  media_transport?: MediaTransport
  charset?: Charset
  version?: string
  digest?: DigestAlgorithm
  record?: boolean
}

export interface DevicePatch {
  name?: string
  password?: string
  auth_username?: string | null
  transport?: Transport | null
  media_transport?: MediaTransport | null
  charset?: Charset
  version?: string | null
  digest?: DigestAlgorithm
}

export interface ImportResult {
  added: number
  updated?: number
  failed: { line: number; gb_id: string; error: string }[]
  total: number
}

export interface CatalogDiff {
  received: number
  expected: number | null
  complete: boolean
  added: number | string[]
  changed: number | string[]
  missing: number | string[]
}

export interface TraceLine {
  at: Instant
  outgoing: boolean
  peer: string
  summary: string
  text: string
}

export interface PresencePoint {
  at: Instant
  state: Presence
  cause: string
  evidence: string
}

export interface Candidate {
  gb_id: string
  host?: string
  port?: number
  address?: string
  transport: Transport
  user_agent: string
  first_seen: Instant
  last_seen: Instant
  attempts: number
}

export interface ApproveResult {
  approved: string[] | number
  failed: { gb_id: string; error: string }[]
}

export interface Channel {
  id: string
  device_id: string
  device_gb_id: string
  device_name: string
  gb_id: string
  name: string
  playable: boolean
  presence: Presence
  presence_since: Instant | null
  reported: Presence
  parent_gb_id: string
  civil_code: string
  record_plan: RecordPlan
  class: string
  label: string
  region_id: string | null
  department_id: string | null
  recording: boolean
  longitude: number | null
  latitude: number | null
}

export interface AttemptStep {
  at: Instant
  what: string
  detail: string
}

export interface Attempt {
  id: string
  started_at: Instant
  ended_at: Instant | null
  purpose: string
  transport: MediaTransport | null
  call_id: string
  succeeded: boolean | null
  leg: string | null
  cause: string
  next_step: string
  steps: AttemptStep[]
}

export interface ViewTicket {
  view_id: string
  url: string
  ticket: string
  expires_at: Instant
}

export interface TimelineSpan {
  start: Instant
  end: Instant
  open: boolean
  damaged_frames: number
}

export interface TimelineGap {
  start: Instant
  end: Instant
  cause: string
  evidence: string
}

export interface Timeline {
  from: Instant
  to: Instant
  spans: TimelineSpan[]
  gaps: TimelineGap[]
}

export interface StreamStats {
  bits_per_s: number
  frames_per_s: number
  lost: number
  jitter_ms: number
  width: number
  height: number
  video: string | null
}

export interface StreamStatus {
  session_id: string
  channel_id: string
  state: string
  transport: string
  recording: boolean
  viewers: number
  stats: StreamStats
}

export interface Overview {
  devices: number
  devices_online: number
  channels: number
  channels_online: number
  candidates: number
  streams: number
  recording: number
  bits_per_s?: number
}

export interface Alarm {
  kind: string
  /** Who is refused: `node` or `worker:<number>`. */
  subject: string
  cause: string
  since: Instant
  /** Null while it stands. */
  until: Instant | null
}

export interface Region {
  id: string
  code: string
  name: string
  level: string
  parent_id: string | null
}

export interface AuditRow {
  seq: number
  act_id: string
  phase: string
  at: Instant
  actor: string
  address: string
  action: string
  subject: string
  reason: string
  result: string
  detail: string
}
