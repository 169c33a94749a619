/** Language and theme: chosen once, remembered by this browser. */
import { ref, watch } from 'vue'
import { i18n, LOCALES, type Locale } from '@/i18n'
import { recall, remember } from '@/lib/storage'

export type Theme = 'dark' | 'light'

const isTheme = (value: unknown): value is Theme => value === 'dark' || value === 'light'
const isLocale = (value: unknown): value is Locale => LOCALES.includes(value as Locale)

export const theme = ref<Theme>(recall('theme', 'dark', isTheme))
export const locale = ref<Locale>(recall('locale', 'zh', isLocale))

watch(
  theme,
  (value) => {
    document.documentElement.dataset.theme = value
    remember('theme', value)
  },
  { immediate: true },
)

watch(
  locale,
  (value) => {
    i18n.global.locale.value = value
    document.documentElement.lang = value === 'zh' ? 'zh-CN' : 'en'
    document.title = i18n.global.t('app.name')
    remember('locale', value)
  },
  { immediate: true },
)

export function toggleTheme(): void {
  theme.value = theme.value === 'dark' ? 'light' : 'dark'
}

export function toggleLocale(): void {
  locale.value = locale.value === 'zh' ? 'en' : 'zh'
}
