/**
 * What each engine does in a way of its own.
 */

/**
 * @typedef {import('puppeteer-core').Page} Tab
 * @typedef {import('puppeteer-core').Browser} Inner
 * @typedef {{ type: string, text: string, address: string }} Message
 * @typedef {object} Habits
 * @property {(context: import('puppeteer-core').BrowserContext, origin: string, permissions: any[]) => Promise<void>} grant
 * @property {(browser: Inner, tab: Tab, scheme: 'light' | 'dark', motion: 'reduce' | 'no-preference') => Promise<void>} paint what the
 * visitor prefers
 * @property {(tab: Tab) => Promise<void>} focus a page behind another one runs on as if it were in front
 * @property {(browser: Inner, tab: Tab, hear: (message: Message) => void) => void} listen to the console
 */

/** @type {Record<string, Habits>} */
export const HABITS = {
  chromium: {
    grant: (context, origin, permissions) =>
      context.overridePermissions(origin, permissions.map((one) => (one === 'clipboard-write' ? 'clipboard-sanitized-write' : one))),
    paint: (_, tab, scheme, motion) =>
      tab.emulateMediaFeatures([
        { name: 'prefers-color-scheme', value: scheme },
        { name: 'prefers-reduced-motion', value: motion },
      ]),
    focus: (tab) => tab.emulateFocusedPage(true),
    listen(_, tab, hear) {
      tab.on('console', (message) => hear({ type: message.type(), text: message.text(), address: message.location().url ?? '' }));
    },
  },
  firefox: {
    // Given by a preference at the start.
    grant: async () => undefined,
    /** WebDriver BiDi has no command for it: a script of the browser's own sets the preferences, of all its pages. */
    async paint(browser, _, scheme, motion) {
      const { connection } = /** @type {any} */ (browser);
      const { result } = await connection.send('browsingContext.getTree', { 'moz:scope': 'chrome' });
      const wanted = {
        'layout.css.prefers-color-scheme.content-override': { dark: 0, light: 1 }[scheme],
        'ui.prefersReducedMotion': { reduce: 1, 'no-preference': 0 }[motion],
      };
      const expression = Object.entries(wanted).map(([name, value]) => `Services.prefs.setIntPref('${name}', ${value});`).join(' ');
      await connection.send('script.evaluate', { expression, target: { context: result.contexts[0].context }, awaitPromise: false });
    },
    focus: async () => undefined,
    /** From the protocol's own event: of an error that is logged the driver's message has no words. */
    listen(browser, tab, hear) {
      const { connection } = /** @type {any} */ (browser);
      const { _id: id } = /** @type {any} */ (tab.mainFrame());
      const heard = ({ type, method, text, source, stackTrace }) => {
        if (type === 'console' && source.context === id) hear({ type: method, text, address: stackTrace?.callFrames[0]?.url ?? '' });
      };
      connection.on('log.entryAdded', heard);
      tab.on('close', () => connection.off('log.entryAdded', heard));
    },
  },
};
