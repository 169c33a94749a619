/** Short messages at the top of the page. An error always brings its cause and its next step. */
import { h } from 'vue'
import { ElMessage } from 'element-plus'
import 'element-plus/es/components/message/style/css'
import { asApiError } from '@/api'
import { errorWords } from './words'

/** Long enough to read three short lines. */
const ERROR_MS = 8000

export function showError(thrown: unknown): void {
  const words = errorWords(asApiError(thrown))
  const lines = [h('b', words.title)]
  if (words.cause) lines.push(h('div', words.cause))
  if (words.nextStep) lines.push(h('div', { class: 'dim' }, words.nextStep))
  ElMessage({ type: 'error', duration: ERROR_MS, showClose: true, grouping: true, message: h('div', lines) })
}

export function showDone(text: string): void {
  ElMessage({ type: 'success', message: text })
}
