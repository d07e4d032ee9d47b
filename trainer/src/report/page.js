// Filters, order and pages of the cards. Those beyond the first page lie in the file as text: a browser makes elements of
// them only while they are seen, so that it survives thousands.
(() => {
  'use strict';
  const PAGE = 48;
  const list = document.querySelector('.cards');
  const form = document.querySelector('.filters');
  const pager = document.querySelector('.pager');
  const sources = [...list.children, ...document.querySelectorAll('script[data-pair]')];
  const cards = sources.map((source) => ({ source, marks: source.dataset, change: Number(source.dataset.change) }));
  const orders = { most: (a, b) => b.change - a.change, least: (a, b) => a.change - b.change };
  let page = 0;

  const element = ({ source }) => {
    if (source.localName !== 'script') return source;
    const item = document.createElement('li');
    item.className = 'card';
    item.id = source.id;
    item.innerHTML = source.textContent;
    return item;
  };

  const show = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const fits = ({ marks }) => ['pair', 'verdict', 'judge'].every((name) => !wanted[name] || marks[name] === wanted[name]);
    const found = cards.filter(fits);
    if (wanted.order) found.sort(orders[wanted.order]);
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(element));
    form.querySelector('output').textContent = `${found.length} of ${cards.length} images`;
    list.classList.toggle('plain', Boolean(wanted.plain));
    pager.hidden = pages === 1;
    pager.querySelector('span').textContent = `Page ${page + 1} of ${pages}`;
    // Not disabled, which would take the keyboard's place away.
    for (const button of pager.querySelectorAll('button')) {
      const there = page + Number(button.dataset.turn);
      button.setAttribute('aria-disabled', String(there < 0 || there >= pages));
    }
  };

  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('input', () => {
    page = 0;
    show();
  });
  // The fields are reset after the event.
  form.addEventListener('reset', () => setTimeout(() => form.dispatchEvent(new Event('input'))));
  pager.addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (!button || button.getAttribute('aria-disabled') === 'true') return;
    page += Number(button.dataset.turn);
    show();
    document.querySelector('#images').scrollIntoView();
  });
  form.hidden = false;
  show();
})();
