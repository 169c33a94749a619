/**
 * The one way to the HTTP API: JSON in and out, errors as ApiError, a deadline on every request.
 *
 * The session is the HttpOnly cookie; `X-Requested-With` marks requests as coming from this page,
 * which is what the server asks of cookie requests that change state.
 */
import type { ErrorBody, ErrorKind } from './types'

const BASE = '/api/v1'

/** Longest wait for an answer. A catalogue query may rightly take some seconds over SIP. */
export const REQUEST_TIMEOUT_MS = 30_000

const KINDS: readonly string[] = [
  'invalid',
  'denied',
  'not_found',
  'conflict',
  'unsupported',
  'exhausted',
  'unavailable',
  'data_loss',
  'internal',
]

/** A failed request: what happened, why, and what to do next, as the server said it. */
export class ApiError extends Error {
  constructor(
    readonly kind: ErrorKind,
    readonly status: number,
    message: string,
    override readonly cause: string = '',
    readonly nextStep: string = '',
  ) {
    super(message)
    this.name = 'ApiError'
  }
}

/** Turn any answer that is not a success into an ApiError, also one that is not our JSON. */
export function errorFrom(status: number, body: unknown): ApiError {
  const error = (typeof body === 'object' && body !== null ? body : {}) as Partial<ErrorBody>
  const kind = KINDS.includes(error.kind ?? '') ? (error.kind as ErrorKind) : kindOf(status)
  const message = error.message || `HTTP ${status}`
  return new ApiError(kind, status, message, error.cause ?? '', error.next_step ?? '')
}

function kindOf(status: number): ErrorKind {
  if (status === 401 || status === 403) return 'denied'
  if (status === 404) return 'not_found'
  if (status === 409) return 'conflict'
  if (status === 429) return 'exhausted'
  if (status === 502 || status === 503 || status === 504) return 'unavailable'
  return status < 500 ? 'invalid' : 'internal'
}

/** Whatever was thrown, as an ApiError. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  return new ApiError('internal', 0, error instanceof Error ? error.message : String(error))
}

type Query = Record<string, string | number | boolean | null | undefined>

interface Options {
  query?: Query
  body?: unknown
  /** Sent as it is, with this content type, instead of JSON. */
  text?: { type: string; data: string }
  signal?: AbortSignal
  timeoutMs?: number
}

/** Called when the server says that nobody is signed in (any more). */
let onSignedOut: () => void = () => {}

export function setSignedOutHandler(handler: () => void): void {
  onSignedOut = handler
}

function address(path: string, query: Query = {}): string {
  const search = new URLSearchParams()
  for (const [key, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') search.set(key, String(value))
  }
  const text = search.toString()
  return BASE + path + (text ? `?${text}` : '')
}

function init(method: string, options: Options): RequestInit {
  const headers: Record<string, string> = { Accept: 'application/json', 'X-Requested-With': 'vsp' }
  let body: string | undefined
  if (options.text) {
    headers['Content-Type'] = options.text.type
    body = options.text.data
  } else if (options.body !== undefined) {
    headers['Content-Type'] = 'application/json'
    body = JSON.stringify(options.body)
  }
  const deadline = AbortSignal.timeout(options.timeoutMs ?? REQUEST_TIMEOUT_MS)
  const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline
  return { method, headers, body, signal, credentials: 'same-origin', cache: 'no-store' }
}

async function send(method: string, path: string, options: Options): Promise<Response> {
  try {
    return await fetch(address(path, options.query), init(method, options))
  } catch (error) {
    if (options.signal?.aborted) throw error
    const slow = error instanceof DOMException && error.name === 'TimeoutError'
    throw new ApiError('network', 0, slow ? 'timeout' : 'unreachable')
  }
}

export async function request<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const response = await send(method, path, options)
  if (response.status === 204) return undefined as T
  const body: unknown = await response.json().catch(() => null)
  if (response.ok) return body as T
  if (response.status === 401 && path !== '/session') onSignedOut()
  throw errorFrom(response.status, body)
}
