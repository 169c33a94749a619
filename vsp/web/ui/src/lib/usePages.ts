/** A list read page by page, keyset style: more rows are added below, none is counted twice. */
import { ref, shallowRef, type Ref, type ShallowRef } from 'vue'
import { asApiError, type ApiError, type List } from '@/api'

export interface Pages<T> {
  items: ShallowRef<T[]>
  total: Ref<number | null>
  more: Ref<boolean>
  busy: Ref<boolean>
  error: Ref<ApiError | null>
  /** From the top. Answers of an older question are thrown away. */
  reload: () => Promise<void>
  /** As many rows as are shown now, again; for refreshes that keep the place. */
  refresh: () => Promise<void>
  loadMore: () => Promise<void>
}

/** Rows of one page of a table. */
export const TABLE_PAGE = 100

export function usePages<T>(read: (after: string | null, size: number) => Promise<List<T>>): Pages<T> {
  const items = shallowRef<T[]>([])
  const total = ref<number | null>(null)
  const more = ref(false)
  const busy = ref(false)
  const error = ref<ApiError | null>(null)
  let next: string | null = null
  let question = 0

  async function ask(after: string | null, size: number, keep: T[]): Promise<void> {
    const mine = ++question
    busy.value = true
    try {
      const page = await read(after, size)
      if (mine !== question) return
      items.value = [...keep, ...page.items]
      next = page.next
      more.value = page.next !== null
      total.value = page.total
      error.value = null
    } catch (thrown) {
      if (mine === question) error.value = asApiError(thrown)
    } finally {
      if (mine === question) busy.value = false
    }
  }

  return {
    items,
    total,
    more,
    busy,
    error,
    reload: () => ask(null, TABLE_PAGE, []),
    refresh: () => ask(null, Math.min(500, Math.max(TABLE_PAGE, items.value.length)), []),
    loadMore: () => ask(next, TABLE_PAGE, items.value),
  }
}
