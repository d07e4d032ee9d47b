/** Starts the page. */

import { startAbout } from './about';
import { startExplain } from './explain';
import { startGenerate } from './generate';
import { ignoreStrayDrops } from './incoming';
import { startMeasure } from './measure';
import { openFiles, startMenu } from './menu';
import { startNew } from './new/start';
import { report } from './notice';
import { startTabs } from './tabs';
import { startTrain } from './train';

/** Nothing may fail in silence. */
window.addEventListener('error', (event) => {
  // Events without an error are remarks of the browser, such as on late resize notifications.
  if (event.error) report(event.error);
});
window.addEventListener('unhandledrejection', (event) => report(event.reason));

const tabList = document.querySelector<HTMLElement>('[role=tablist]');
if (tabList) startTabs(tabList);
startExplain();
startGenerate();
startTrain();
startNew((file) => void openFiles([file]));
startMeasure();
startAbout();
ignoreStrayDrops();

startMenu().catch(report);
