/** Names that the page and its service worker share. */

/** The cache of what may change: models, their pictures and lists. */
export const DATA = 'duet-data';
/** What the names of caches of the page's own files begin with. */
export const PAGE = 'duet-page-';
