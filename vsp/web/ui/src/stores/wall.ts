/** The wall of this browser: what is shown where, remembered between visits. */
import { reactive, watch } from 'vue'
import { recall, remember } from '@/lib/storage'
import { emptyWall, isWall } from '@/lib/wall'

export const wall = reactive(recall('wall', emptyWall(), isWall))

watch(wall, (value) => remember('wall', value), { deep: true })
