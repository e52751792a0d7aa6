/** The report's style sheet: light or dark after the reader's setting, always light on paper. */
import { colourVariables } from "./colours.js";

export function styleSheet(widths: number): string {
  const light = `--page:#fff;--card:#f5f7f9;--text:#1b2127;--muted:#56616c;--line:#d5dbe1;--alarm:#b3261e;${colourVariables("light", widths)}`;
  const dark = `--page:#14171b;--card:#1d2228;--text:#e7ebef;--muted:#a2adb8;--line:#39424b;--alarm:#ff8a80;${colourVariables("dark", widths)}`;
  return `:root{color-scheme:light dark;${light}}
@media screen and (prefers-color-scheme:dark){:root{${dark}}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1160px;padding:28px 24px 60px;background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif}
h1{font-size:27px;line-height:1.2;margin:0 0 14px;overflow-wrap:anywhere}
h2{font-size:20px;margin:40px 0 10px;padding-bottom:5px;border-bottom:1px solid var(--line)}
h3{font-size:15px;margin:0 0 2px}
.sheet+h3{margin-top:20px}
.findings li:first-child{font-weight:600}
p,ul{margin:6px 0}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(170px,1fr));gap:10px;margin:0}
.facts div{background:var(--card);border-radius:6px;padding:8px 12px}
dt{color:var(--muted);font-size:12px}
dd{margin:0;overflow-wrap:anywhere}
figure{margin:16px 0;break-inside:avoid;min-width:0}
figcaption p{color:var(--muted);font-size:13px;margin:0 0 6px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:8px 28px}
.scroll{overflow-x:auto}
.plot{display:block;width:100%;height:auto;min-width:440px;font:12px system-ui,sans-serif}
.plot.scatter,.plot.bars{min-width:640px}
.plot text{fill:var(--text);paint-order:stroke;stroke:var(--page);stroke-width:3px;stroke-linejoin:round}
.plot .share{stroke:none}
.plot .tick,.plot .title{fill:var(--muted)}
.plot .grid{stroke:var(--line);stroke-width:1}
.plot .axis{stroke:var(--muted);stroke-width:1}
.lines polyline{fill:none;stroke:currentColor;stroke-width:1.8;stroke-linejoin:round}
.lines circle{fill:currentColor}
.plot .leader{fill:none;stroke:currentColor;stroke-width:1;opacity:.6}
.envelope{fill:none;stroke:var(--muted);stroke-width:1.6;stroke-dasharray:5 4}
.mark path{fill:currentColor;stroke:var(--page);stroke-width:1}
.mark .whisker{fill:none;stroke:currentColor;stroke-width:1.6}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:4px 14px 4px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
th{color:var(--muted);font-weight:600}
td.number,th.number{text-align:right;white-space:nowrap}
tr.dynamic td,tr.envelope td{background:var(--card);font-weight:600}
th,.honest td:first-child{white-space:nowrap}
.honest td:last-child{min-width:200px}
details{margin-top:6px;font-size:13px}
summary{cursor:pointer;color:var(--muted)}
.alarm{color:var(--alarm);font-weight:600}
.sheet{list-style:none;padding:0;margin:8px 0;display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:12px}
.sheet li{font-size:13px;line-height:1.35;break-inside:avoid;overflow-wrap:anywhere}
.sheet img{display:block;width:100%;aspect-ratio:1;object-fit:contain;background:var(--card);image-rendering:pixelated;border-bottom:5px solid var(--took);margin-bottom:4px}
.config{columns:2 400px;column-gap:32px}
.config div{display:flex;justify-content:space-between;gap:16px;border-bottom:1px solid var(--line);padding:3px 0;break-inside:avoid;font-size:14px}
.config dd{text-align:right;font-family:ui-monospace,monospace;font-size:13px}
.config dt{font-size:14px}
@media print{body{max-width:none;padding:0;font-size:12px}h2,h3{break-after:avoid}.pair{grid-template-columns:1fr 1fr}.config{columns:2}table{font-size:11px}details{display:none}.plot,.plot.scatter,.plot.bars{min-width:0}}`;
}
