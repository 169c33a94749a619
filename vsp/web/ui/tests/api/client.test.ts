import { afterEach, describe, expect, test, vi } from 'vitest'
import { ApiError, asApiError, errorFrom, request, setSignedOutHandler } from '@/api/client'

function answer(status: number, body?: unknown): void {
  const text = body === undefined ? null : JSON.stringify(body)
  vi.stubGlobal('fetch', vi.fn(async () => new Response(text, { status })))
}
const lastCall = (): [string, RequestInit] => vi.mocked(fetch).mock.calls.at(-1) as [string, RequestInit]

afterEach(() => {
  vi.unstubAllGlobals()
  setSignedOutHandler(() => {})
})

describe('requests', () => {
  test('carry the header that the server asks of cookie requests, and JSON', async () => {
    answer(201, { id: 'd1' })

    await request('POST', '/devices', { body: { gb_id: 'x' } })

    const [url, init] = lastCall()
    expect(url).toBe('/api/v1/devices')
    expect(init.headers).toMatchObject({ 'X-Requested-With': 'vsp', 'Content-Type': 'application/json' })
    expect(init.body).toBe('{"gb_id":"x"}')
  })

  test('leave empty query fields out', async () => {
    answer(200, {})

    await request('GET', '/devices', { query: { q: '', after: null, size: 5, presence: undefined } })

    expect(lastCall()[0]).toBe('/api/v1/devices?size=5')
  })

  test('no content is no body', async () => {
    answer(204)

    expect(await request('DELETE', '/views/v1')).toBeUndefined()
  })
})

describe('errors', () => {
  test('keep what the server said', () => {
    const error = errorFrom(409, { kind: 'conflict', message: 'taken', cause: 'c', next_step: 'n' })

    expect(error).toMatchObject({ kind: 'conflict', status: 409, message: 'taken', cause: 'c', nextStep: 'n' })
  })

  test.each([
    [401, 'denied'],
    [404, 'not_found'],
    [429, 'exhausted'],
    [502, 'unavailable'],
    [500, 'internal'],
    [400, 'invalid'],
  ])('a proxy’s own %i page becomes %s', (status, kind) => {
    expect(errorFrom(status, null).kind).toBe(kind)
    expect(errorFrom(status, { kind: 'made up' }).kind).toBe(kind)
  })

  test('an unreachable server is a kind of its own', async () => {
    vi.stubGlobal('fetch', vi.fn(async () => { throw new TypeError('failed to fetch') }))

    await expect(request('GET', '/overview')).rejects.toMatchObject({ kind: 'network', message: 'unreachable' })
  })

  test('anything thrown can be shown', () => {
    expect(asApiError(new Error('x'))).toBeInstanceOf(ApiError)
    expect(asApiError('text').message).toBe('text')
  })

  test('a session that has ended tells the page, but asking for the session itself does not', async () => {
    const left = vi.fn()
    setSignedOutHandler(left)
    answer(401, { kind: 'denied', message: 'not signed in' })

    await expect(request('GET', '/session')).rejects.toBeInstanceOf(ApiError)
    expect(left).not.toHaveBeenCalled()
    await expect(request('GET', '/overview')).rejects.toBeInstanceOf(ApiError)

    expect(left).toHaveBeenCalledOnce()
  })
})
