/** Who is signed in. The session itself is an HttpOnly cookie that this page cannot read. */
import { computed, ref } from 'vue'
import { api, ApiError, type User } from '@/api'
import { feed } from '@/api/events'
import { keepServerTime } from '@/api/servertime'

export const user = ref<User | null>(null)

/** False until the server has been asked once. */
let asked = false

export const canManage = computed(() => user.value?.role === 'admin')
export const canAudit = computed(() => user.value?.role !== 'operator')

/** The signed-in user, asking the server the first time. Null means: nobody. */
export async function currentUser(): Promise<User | null> {
  if (asked) return user.value
  try {
    enter((await api.session()).user)
  } catch (error) {
    if (!(error instanceof ApiError) || error.kind === 'network') throw error
  }
  asked = true
  return user.value
}

export async function signIn(name: string, password: string, totp?: string): Promise<User> {
  await api.signIn(name, password, totp)
  // Asked again on purpose: it proves that the browser has kept the cookie.
  const session = await api.session().catch((error: unknown) => {
    if (error instanceof ApiError && error.status === 401) {
      throw new ApiError('unsupported', 401, 'cookie_refused')
    }
    throw error
  })
  enter(session.user)
  asked = true
  return session.user
}

export async function signOut(): Promise<void> {
  await api.signOut().catch(() => {}) // gone on the server or not, this page forgets it
  leave()
}

export function leave(): void {
  user.value = null
  feed.stop()
}

function enter(who: User): void {
  user.value = who
  if (who.must_change_password) return
  feed.start()
  keepServerTime()
}

export function passwordChanged(): void {
  if (user.value) enter({ ...user.value, must_change_password: false })
}
