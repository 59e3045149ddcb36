"""The style sheet of the report page: system fonts, light and dark, phone and paper."""

CSS = """
:root { color-scheme: light dark; --text: #1c2127; --soft: #5b6673; --line: #dde2e8; --page: #ffffff;
  --panel: #f5f7f9; --accent: #0063a3; --warn-text: #6b3a00; --warn-page: #fff4de; --warn-line: #e69f00; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ec; --soft: #9ba7b4; --line: #333b44;
  --page: #14181c; --panel: #1d2329; --accent: #6bbcf5; --warn-text: #ffd999; --warn-page: #33270f; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem; overflow-wrap: break-word;
  background: var(--page); color: var(--text);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 3.25rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: 1.3rem; }
h3 { margin: 1.75rem 0 .5rem; font-size: 1.02rem; }
p { margin: .5rem 0; max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; }
a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: .35rem 1.1rem; margin: 1.5rem 0 0; padding: 0; list-style: none;
  font-size: .93rem; }
nav a { text-decoration: none; } nav a:hover { text-decoration: underline; }
.banner { margin: 1.25rem 0 0; padding: .8rem 1rem; max-width: none; border-left: 5px solid var(--warn-line);
  border-radius: 4px; background: var(--warn-page); color: var(--warn-text); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: 1.25rem 0 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .75rem 0; }
.tall { max-height: 34rem; overflow-y: auto; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
caption { padding-bottom: .4rem; text-align: left; }
th, td { padding: .38rem .9rem .38rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline; }
th { font-weight: 600; } thead th { color: var(--soft); font-size: .85rem; white-space: nowrap; }
tbody th { font-weight: 500; } tfoot th, tfoot td { border-bottom: 0; font-weight: 600; }
td.number, th.number { padding-left: .5rem; text-align: right; white-space: nowrap; }
.scores table { width: min(100%, 44rem); table-layout: fixed; } .scores td.number { white-space: normal; }
.scores th:first-child { width: 44%; } .scores th:nth-child(3) { width: 32%; } .scores th:last-child { width: 9%; }
.wide { min-width: 9.5rem; }
th small, td small { display: block; color: var(--soft); font-weight: 400; font-size: .84rem; }
td small { max-width: 13rem; margin-left: auto; white-space: normal; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1.5rem;
  margin: 1rem 0; }
.slices { grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1.1rem; }
figure { margin: 0; min-width: 0; max-width: 32rem; }
.card { display: block; padding: .6rem; border: 1px solid var(--line); border-radius: 6px; background: #fff; }
.card img { display: block; margin: 0 auto; max-width: 100%; height: auto; width: 29rem; }
.slices .card { padding: .35rem; } .slices .card img { width: 100%; }
figcaption { margin-top: .5rem; overflow-wrap: anywhere; }
figcaption strong { color: var(--text); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; margin: .35rem 0; padding: 0; list-style: none;
  font-size: .93rem; }
.legend li:first-child { color: var(--soft); min-width: 4.5rem; }
.key, .patch { display: inline-block; width: 2.2rem; margin: 0 .4rem .25rem 0; border-top: 3px solid;
  vertical-align: middle; }
.patch { width: 1rem; height: 1rem; margin-bottom: .2rem; border: 1px solid var(--soft); border-radius: 2px;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.viewer { display: grid; justify-items: center; gap: .6rem; max-width: 40rem; }
.viewer .card { width: 100%; padding: .35rem; background: #000; } .viewer .card img { width: 100%; }
.viewer input { width: 100%; accent-color: var(--accent); }
.viewer svg { width: 100%; height: 5.5rem; background: var(--panel); cursor: pointer; }
.viewer output { min-height: 3.2em; text-align: center; font-variant-numeric: tabular-nums; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--accent); }
pre { padding: 1rem; overflow-x: auto; border-radius: 6px; background: var(--panel);
  font-size: .85rem; line-height: 1.5; }
footer { margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media (max-width: 34rem) { body { padding-top: 1.5rem; } h1 { font-size: 1.55rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  .slices { grid-template-columns: 1fr; } .scores table { table-layout: auto; }
  .scores thead th { width: auto; } .scores td.number:last-child { white-space: nowrap; }
  table { font-size: .86rem; } thead th { font-size: .8rem; }
  th, td { padding-right: .3rem; }
  .compared th:first-child { position: sticky; left: 0; min-width: 6rem; background: var(--page); }
  .compared td { padding-left: .6rem; } .compared th small { display: none; }
  td.number, th.number { padding-left: .25rem; }
  thead th, thead th.number { white-space: normal; } }
@media print { :root { color-scheme: light; --text: #000; --soft: #444; --line: #bbb; --page: #fff;
    --panel: #fff; --accent: #000; --warn-text: #000; --warn-page: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  h2, h3, caption, section > p, .legend { break-after: avoid; } p, figure, tr { break-inside: avoid; }
  .scroll, .tall, pre { overflow: visible; max-height: none; } pre { white-space: pre-wrap; columns: 2; }
  details::details-content { content-visibility: visible; display: block; }
  .figures { grid-template-columns: 1fr 1fr; } }
"""
