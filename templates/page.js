(() => {
'use strict';
const TYPE = 'application/vnd.autostopping+json';
const HEADER = 'X-Autostopping-Phase';
// Answers of what stands in front of the site (or of the site itself) that a reload would not improve.
const BUSY = [403, 429, 502, 503, 504];
const STEPS = ['machine_starting', 'booting', 'health_checks', 'switching'];
const KEY = 'autostopping.reloads';
const $ = id => document.getElementById(id);
const main = document.querySelector('main');
const words = JSON.parse(main.dataset.words);
const icons = JSON.parse(main.dataset.icons);
const wasPost = 'post' in main.dataset;
// Without the fragment, and without credentials that the address bar may hold (fetch refuses those); an empty query stays.
const bare = new URL(location.href);
bare.hash = bare.username = bare.password = '';
const self = bare.href;

let state = JSON.parse(main.dataset.state);
let at = Date.now();
let shown = 0, said = '', fails = 0, busy = 0, idle = 0;
let timer, asking = false, leaving = false, asked = Date.now();

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
const put = (id, text) => { const node = $(id); if (node.textContent !== text) node.textContent = text; };
const show = (id, yes) => { $(id).hidden = !yes; };
const passed = () => Math.max(0, Math.floor((Date.now() - at) / 1000));
const clock = s => {
  const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60, two = n => String(n).padStart(2, '0');
  return (h ? h + ':' + two(m) : m) + ':' + two(s % 60);
};
const mood = () => ({asleep: 'asleep', awake: 'ready', failed: 'failed', misconfigured: 'misconfigured'})[state.phase] || 'waking';
const left = s => s == null ? words.eta_unknown
  : s === 0 ? words.eta_overdue
  : s < 10 ? words.eta_moments
  : s < 56 ? fill(words.eta_seconds, {seconds: Math.ceil(s / 5) * 5})
  : s < 90 ? words.eta_minute
  : fill(words.eta_minutes, {minutes: Math.floor((s + 30) / 60)});
const detail = m => {
  if (m === 'ready' && wasPost) return '';
  if (m !== 'waking') return fill(words['detail_' + m], state);
  if (state.phase === 'settling' || state.phase === 'stopping') return words['detail_' + state.phase];
  return state.step === 'health_checks' && state.needed > 1 ? fill(words.step_health_checks_many, state) : words['step_' + state.step];
};

// Runs every second. It writes only what changed, and announces only a change of headline or detail.
const render = () => {
  const m = mood(), gone = m === 'ready' ? 0 : passed(), trouble = m === 'failed' || m === 'misconfigured', first = !said;
  const headline = fill(words['headline_' + m], state), text = detail(m) || '';
  document.body.dataset.mood = m;
  const title = fill(words['title_' + m], state);
  if (document.title !== title) document.title = title;
  const icon = document.querySelector('link[rel=icon]');
  if (icon.getAttribute('href') !== icons[m]) icon.setAttribute('href', icons[m]);
  put('headline', headline);
  put('detail', text);

  const eta = state.eta_seconds == null ? null : Math.max(0, state.eta_seconds - gone);
  let percent = m === 'ready' ? 100 : state.percent;
  if (percent != null && m === 'waking' && state.eta_seconds > 0) {
    percent += Math.max(0, 98 - percent) * Math.min(1, gone / state.eta_seconds);
  }
  shown = m === 'waking' || m === 'ready' ? Math.max(shown, percent || 0) : 0;
  const bar = $('bar');
  if (percent == null && !shown) bar.removeAttribute('value'); else bar.value = shown;
  const reached = m === 'ready' ? 4 : state.step === 'ready' ? 3 : Math.max(0, STEPS.indexOf(state.step));
  const place = trouble || (percent == null && !shown) ? 4 + 25 * Math.min(3, reached) : shown;
  document.querySelectorAll('.sun').forEach(part => {
    const round = part.tagName === 'circle';
    part.setAttribute(round ? 'cx' : 'x', place + '%');
    if (round) part.setAttribute('cy', trouble ? 124 : 130 - place * 3 / 5);
  });
  put('eta', m === 'ready' ? words.eta_ready : left(eta));
  const elapsed = state.elapsed_seconds + gone;
  put('elapsed', m === 'ready' && !elapsed ? '' : fill(m === 'ready' ? words.took : words.elapsed, {time: clock(elapsed)}));

  const retry = state.retry_in_seconds == null ? null : Math.max(0, state.retry_in_seconds - gone);
  put('reason', state.reason || '');
  put('next', m === 'misconfigured' ? words.next_misconfigured
    : retry == null ? words.next_checked
    : retry ? fill(words.next_retry, {time: clock(retry)}) : words.next_now);
  put('advice', state.advice || '');
  show('bar', m === 'waking' || m === 'ready');
  show('times', m === 'waking' || m === 'ready');
  show('trouble', trouble || (state.reason && m !== 'ready'));
  show('reason-row', !!state.reason);
  show('next-row', m !== 'asleep');
  show('steps', m !== 'asleep' && m !== 'misconfigured');
  show('wake', m === 'asleep');
  show('hint', m === 'waking' && !wasPost);
  if (wasPost && m === 'ready') {
    put('post', fill(words.post_ready, state));
    show('back', history.length > 1);
  }

  [...$('steps').children].forEach((li, i) => {
    const is = i < reached ? 'done' : i > reached ? 'later' : m === 'failed' ? 'failed' : 'now';
    if (li.dataset.is === is) return;
    li.dataset.is = is;
    li.lastElementChild.textContent = words['is_' + is];
    if (is === 'now') li.setAttribute('aria-current', 'step'); else li.removeAttribute('aria-current');
  });

  const say = headline + '. ' + (wasPost && m === 'ready' ? $('post').textContent : text) + (trouble && state.reason ? ' ' + state.reason : '');
  if (say !== said) {
    said = say;
    // What the page says at first is read as the page itself.
    if (!first) put('live', say);
  }
};

// [time of the last reload, how many came in quick succession]: in the tab's own storage, since it must survive them.
let memory = [0, 0];
const reloads = () => {
  try { memory = JSON.parse(sessionStorage.getItem(KEY)) || memory; } catch { /* storage is refused: this page's memory serves */ }
  return Date.now() - memory[0] > 120000 || !(memory[0] <= Date.now()) ? [0, 0] : memory;
};
const leave = () => {
  // What was sent is lost. To reload would send it again, and to open the address without it would only hide that: who sent it
  // decides.
  if (leaving || wasPost) return;
  leaving = true;
  clearTimeout(timer);
  memory = [Date.now(), reloads()[1] + 1];
  try { sessionStorage.setItem(KEY, JSON.stringify(memory)); } catch { /* as above */ }
  // A navigation that comes to nothing (a download, a 204) leaves this page here: it goes on asking.
  timer = setTimeout(() => { leaving = false; ask(); }, 30000);
  location.reload();
};
const leaveIn = seconds => { clearTimeout(timer); timer = setTimeout(leave, Math.max(0, seconds) * 1000); };
// At once the first time. For a while after a flip some of the load balancer's nodes still lead here: should the page come back
// again and again, ever more slowly, so that the third reload comes more than 20 s after the first.
const leaveFor = least => {
  const [last, count] = reloads();
  leaveIn(Math.max(least, count ? (last - Date.now()) / 1000 + Math.min(60, 3.5 * 2 ** count) : 0));
};
const leaveAtMostEvery = seconds => !wasPost && Date.now() - reloads()[0] >= seconds * 1000 && (leave(), true);
// Where nobody has asked for a wake, a reload would be one: trouble is waited out there.
const retryAtMostEvery = seconds => mood() !== 'asleep' && leaveAtMostEvery(seconds);

const wait = seconds => {
  clearTimeout(timer);
  timer = setTimeout(ask, seconds * (0.8 + 0.4 * Math.random()) * 1000);
};
const backoff = count => Math.min(30, 2 ** Math.min(count, 5));
// Seldom while the end is far, often when it is near, ever less often once overdue.
const pace = () => {
  const m = mood();
  if (m !== 'waking') return document.hidden ? 60 : Math.min(20, Math.max(5, state.retry_in_seconds || 20));
  const eta = state.eta_seconds;
  if (eta > 0) { idle = 0; return Math.min(10, Math.max(1, eta / 6)); }
  idle += 1;
  return Math.min(15, 1 + idle / 4);
};

const failed = () => {
  fails += 1;
  // A blip, or a laptop without a network, is waited out: a reload then would only trade this page for an error of the browser.
  if (fails >= 3 && navigator.onLine !== false && retryAtMostEvery(30)) return;
  wait(backoff(fails));
};
const blocked = answer => {
  busy += 1;
  if (busy >= 5 && retryAtMostEvery(60)) return;
  const after = Number(answer.headers.get('Retry-After')) || 0;
  wait(Math.max(backoff(busy), Math.min(after, 60)));
};
const ready = () => {
  state = {...state, phase: 'awake', step: 'ready', percent: 100, eta_seconds: null, reason: null,
    elapsed_seconds: state.elapsed_seconds + passed()};
  at = Date.now();
  render();
  leaveFor(0.4);
};

const ask = async () => {
  if (asking || leaving) return;
  asking = true;
  clearTimeout(timer);
  asked = Date.now();
  let answer, news;
  try {
    answer = await fetch(self, {
      headers: {Accept: TYPE}, cache: 'no-store', redirect: 'manual', credentials: 'same-origin',
      signal: AbortSignal.timeout && AbortSignal.timeout(30000),
    });
    // An answer with an age was kept by a cache on the way: it says nothing about now.
    if (answer.headers.has(HEADER) && !(answer.headers.get('Age') > 0)) news = await answer.json();
    else if (answer.body) answer.body.cancel();
  } catch { answer = answer && answer.headers.has(HEADER) ? answer : null; }
  asking = false;
  if (leaving) return;
  if (!answer) return failed();
  fails = 0;
  if (answer.type === 'opaqueredirect') { if (wasPost) ready(); else if (!leaveAtMostEvery(30)) wait(10); return; }
  if (!answer.headers.has(HEADER)) return BUSY.includes(answer.status) ? blocked(answer) : ready();
  if (answer.headers.get('Age') > 0) return blocked(answer);
  busy = 0;
  // An answer of ours that is no news of this rule (it is gone, or this page is older than the answer): a fresh page says it.
  // Trouble of ours passes by itself, and each reload would be one more wish to wake.
  if (!news || !news.phase || !news.step) {
    if ((news && news.phase === 'failed') || !retryAtMostEvery(30)) wait(10);
    return;
  }
  // A form has to reach the site at once, so it is ready when the site itself has answered.
  if (wasPost && news.phase === 'awake') news = {...news, phase: 'switching', step: 'switching'};
  if (news.phase !== state.phase || news.step !== state.step) idle = 0;
  state = news;
  at = Date.now();
  render();
  if (state.phase === 'awake') leaveFor(2); else wait(pace());
};

// The request that brought this page could not be noted: only another one counts. A minute of this is longer than whoever was
// in the way may be there; after that nobody is taken to be still waiting.
const again = state.repeat && !wasPost && reloads()[1] < 5;
const look = () => { if (!document.hidden && Date.now() - asked > 2000 && state.phase !== 'awake' && !again) ask(); };
document.addEventListener('visibilitychange', look);
addEventListener('online', look);
addEventListener('pageshow', event => { if (event.persisted) { leaving = false; ask(); } });
// A link to this address without its fragment, which a reload keeps; after a form a link is what does not send it again.
const link = document.querySelector('#wake a');
if (wasPost) $('back').addEventListener('click', () => history.back());
else if (link) link.addEventListener('click', event => { event.preventDefault(); leave(); });

render();
setInterval(render, 1000);
if (state.phase === 'awake' || again) leaveFor(2); else wait(Math.min(3, pace()));
})();
