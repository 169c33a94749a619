/** Where the console begins: styles, language, theme, routes. */
import { createApp } from 'vue'
import './styles/tokens.css'
import 'element-plus/theme-chalk/base.css'
import './styles/element.css'
import './styles/base.css'
import App from './App.vue'
import { setSignedOutHandler } from './api/client'
import { i18n } from './i18n'
import { installHook } from './player/hook'
import { router } from './router'
import { leave } from './stores/session'
import './stores/prefs'

installHook()

setSignedOutHandler(() => {
  leave()
  const at = router.currentRoute.value
  if (at.name !== 'sign-in') {
    void router.replace({ name: 'sign-in', query: { next: at.fullPath, why: 'expired' } })
  }
})

createApp(App).use(i18n).use(router).mount('#app')
