"""How the pages look: one style for the cache's and the run's report, light and dark, phone and desktop."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #f6f6f4; --card: #ffffff; --ink: #1a1d21; --soft: #5b646e; --line: #e2e4e6; --fill: #eef0f2;
  --c1: #2463a8; --c2: #c4610c; --c3: #2a7f55; --c4: #7a4bb8; --good: #1f7a4a; --bad: #c02b22; --warn: #9a5b00; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #121519; --card: #1a1e24; --ink: #e8ebee; --soft: #9aa4af; --line: #2d333b; --fill: #262c34;
  --c1: #6fb0f2; --c2: #f0a05a; --c3: #63c394; --c4: #b792ee; --good: #63c394; --bad: #ff7d72; --warn: #f0b45a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Liberation Sans", sans-serif; font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 40px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 4px; letter-spacing: -0.005em; overflow-wrap: anywhere; }
h3 { font-size: 14px; margin: 0 0 2px; }
p { margin: 0 0 10px; max-width: 76ch; }
.soft, .note { color: var(--soft); } .note { font-size: 13px; }
header { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: baseline; margin-bottom: 4px; }
.state { font-size: 12px; font-weight: 650; letter-spacing: .06em; text-transform: uppercase; padding: 2px 9px;
  border-radius: 99px; border: 1.5px solid currentColor; align-self: center; }
.complete { color: var(--good); } .incomplete, .empty { color: var(--warn); } .damaged { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 18px 0; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 11px 14px 10px; } .tile b { display: block; font-size: 24px; font-weight: 620; line-height: 1.25; }
.tile span { display: block; color: var(--soft); font-size: 13px; line-height: 1.35; }
.tile .unit { display: inline; font-size: 14px; font-weight: 450; color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 14px;
  margin: 12px 0; }
.card { padding: 14px 14px 10px; min-width: 0; } .card > p { font-size: 13px; color: var(--soft); margin-bottom: 8px; }
.card.wide { grid-column: 1 / -1; }
.banner { border-left: 4px solid var(--warn); padding: 10px 14px; margin: 14px 0; border-radius: 0 10px 10px 0;
  background: var(--card); border-top: 1px solid var(--line); border-right: 1px solid var(--line);
  border-bottom: 1px solid var(--line); } .banner.bad { border-left-color: var(--bad); }
.banner.good { border-left-color: var(--good); } .banner p { margin: 0 0 4px; max-width: none; }
code { font: 13px/1.45 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", "Liberation Mono", monospace;
  overflow-wrap: anywhere; }
.chart { display: block; width: 100%; height: auto; } .chart text { font-size: 11px; fill: var(--soft); }
.chart .title { font-size: 11.5px; } .chart .end { text-anchor: end; } .chart .middle { text-anchor: middle; }
.grid { stroke: var(--line); stroke-width: 1; } .axis { stroke: var(--soft); stroke-width: 1; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.curve.c1 { stroke: var(--c1); } .curve.c2 { stroke: var(--c2); } .curve.c3 { stroke: var(--c3); }
.curve.c4 { stroke: var(--c4); } .curve.plain { stroke: var(--soft); } .dashed { stroke-dasharray: 4 4; opacity: .75; }
.dot.c1, .area.c1 { fill: var(--c1); } .dot.c2 { fill: var(--c2); } .dot.c3 { fill: var(--c3); }
.dot.c4 { fill: var(--c4); } .area.part { fill: var(--warn); }
.dot.faint { opacity: .38; } .dot.bad { fill: var(--bad); stroke: var(--card); stroke-width: 1; }
.legend { font-size: 12.5px; color: var(--soft); margin: 0 0 4px; display: flex; flex-wrap: wrap; gap: 2px 14px; }
.legend span { white-space: nowrap; } .key { width: 18px; height: 10px; margin-right: 6px; vertical-align: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; font-weight: 550; color: var(--soft); font-size: 12.5px; white-space: nowrap; }
th, td { padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); vertical-align: baseline; }
tr:last-child > td { border-bottom: 0; } th:last-child, td:last-child { padding-right: 0; }
.n { text-align: right; white-space: nowrap; } .name { max-width: 18ch; overflow-wrap: break-word; }
tr.sum td { font-weight: 600; }
td.bar { width: 28%; min-width: 48px; padding-right: 12px; }
.track { display: block; height: 9px; border-radius: 3px; background: var(--fill); overflow: hidden; }
.track i { display: block; height: 100%; background: var(--c1); width: calc(var(--v) * 100%); border-radius: 3px; }
.matrix { width: auto; margin: 2px 0 6px; table-layout: fixed; } .matrix td, .matrix th { border: 0; padding: 0; }
.matrix thead th { font-size: 11.5px; text-align: center; vertical-align: bottom; padding-bottom: 4px; }
.matrix tbody th { text-align: right; vertical-align: middle; padding-right: 8px; font-size: 12.5px; max-width: 15ch;
  overflow: hidden;  text-overflow: ellipsis; }
.matrix td { width: 46px; height: 30px; text-align: center; font-size: 12px; vertical-align: middle;
  border: 2px solid var(--card);
  background: color-mix(in srgb, var(--bad) calc(var(--v) * 62%), var(--fill)); border-radius: 6px; }
.matrix td.own { background: transparent; color: var(--soft); }
.down { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 11ch; overflow: hidden;
  text-overflow: ellipsis; display: inline-block; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 12px;
  margin: 12px 0; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  overflow: hidden; min-width: 0; }
figure img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--fill); }
.pixels { image-rendering: pixelated; }
figcaption { padding: 7px 9px 8px; font-size: 12.5px; line-height: 1.4; overflow-wrap: anywhere; }
figcaption b { font-weight: 600; } figcaption span { display: block; }
.right { color: var(--good); } .wrong { color: var(--bad); } .where { color: var(--soft); font-size: 11.5px; }
details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 0 14px;
  margin: 10px 0; }
summary { cursor: pointer; padding: 10px 0; font-weight: 550; font-size: 14px; } details[open] { padding-bottom: 12px; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 3px 16px; margin: 0; font-size: 13.5px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 40px; padding-top: 12px; border-top: 1px solid var(--line); color: var(--soft); font-size: 13px; }
@media (max-width: 560px) { main { padding: 18px 14px 32px; } h1 { font-size: 22px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 9px; } .tile:last-child:nth-child(odd) { grid-column: 1 / -1; }
  .tile b { font-size: 21px; }
  .gallery { grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 9px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 6px; } .matrix td { width: 38px; height: 28px; } }
@media print { body { background: none; } .card, .tile, figure { break-inside: avoid; } }
""".strip()
