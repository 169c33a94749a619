/** Call `act` soon after any of these events, once for a burst, while the component lives. */
import { onBeforeUnmount, onMounted } from 'vue'
import { feed, RESYNC } from '@/api/events'

export function useFeed(types: readonly string[], act: () => void, settleMs = 800): void {
  let timer = 0
  let unlisten = () => {}
  onMounted(() => {
    unlisten = feed.listen((event) => {
      if (event.type !== RESYNC && !types.includes(event.type)) return
      window.clearTimeout(timer)
      timer = window.setTimeout(act, settleMs)
    })
  })
  onBeforeUnmount(() => {
    unlisten()
    window.clearTimeout(timer)
  })
}
