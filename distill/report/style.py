"""The style sheet of a report page: light and dark, narrow and wide, screen and paper.

STYLE is the whole of it, as CSS text. Not covered: the style of plots, which each plot brings itself (`svg.py`).
"""

from distill.report.svg import palette

MONOSPACE = "13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"

STYLE = (
    palette(":root")
    + f"""
:root {{ color-scheme: light dark; --soft: color-mix(in srgb, var(--paper) 95%, var(--ink)); --good: var(--kept);
  --bad: #c0392b; --unsure: #9a6200; }}
@media (prefers-color-scheme: dark) {{ :root {{ --bad: #ff8a7a; --unsure: #e8b04a; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', sans-serif; }}
main, header > div {{ max-width: 928px; margin: 0 auto; padding: 0 24px; }}
header {{ border-bottom: 1px solid var(--line); padding: 40px 0 24px; }}
h1 {{ font-size: 30px; line-height: 1.2; margin: 0 0 6px; }}
h2 {{ font-size: 22px; margin: 52px 0 8px; }}
h3 {{ font-size: 16px; margin: 26px 0 6px; }}
p {{ margin: 8px 0; }}
a {{ color: var(--student); }}
nav {{ margin-top: 20px; font-size: 14px; }}
nav a {{ color: var(--muted); margin-right: 16px; }}
.muted, figcaption, .small {{ color: var(--muted); }}
.small, figcaption {{ font-size: 14px; font-weight: 400; }}
code {{ font: {MONOSPACE}; }}
.command {{ display: block; background: var(--soft); border-radius: 6px; padding: 7px 12px; margin: 6px 0;
  overflow-x: auto; white-space: pre; }}
.command::before {{ content: "$ "; color: var(--muted); user-select: none; }}
.verdict {{ border: 1px solid var(--line); border-left: 6px solid var(--tone); border-radius: 8px;
  padding: 10px 20px; margin: 20px 0; }}
.verdict .headline {{ font-size: 19px; }}
.verdict .outcome {{ color: var(--tone); margin-right: 6px; }}
.verdict ul {{ margin: 6px 0; padding-left: 20px; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 18px 0; }}
.tile {{ background: var(--soft); border-radius: 8px; padding: 12px 16px; }}
.tile b {{ display: block; font-size: 26px; line-height: 1.25; }}
.tile span {{ display: block; font-size: 13px; line-height: 1.4; color: var(--muted); }}
.tile.base b {{ color: var(--base); }}
.tile.student b {{ color: var(--student); }}
.tile.teacher b {{ color: var(--teacher); }}
figure {{ margin: 16px 0 26px; }}
figure .plot {{ overflow-x: auto; }}
figure svg {{ display: block; width: 100%; height: auto; min-width: 600px; }}
.table {{ overflow-x: auto; margin: 12px 0; }}
table {{ border-collapse: collapse; font-size: 14px; width: 100%; }}
th, td {{ text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line); white-space: nowrap;
  font-variant-numeric: tabular-nums; }}
th {{ color: var(--muted); font-weight: 500; }}
th:first-child, td:first-child, .words {{ text-align: left; }}
td.words {{ white-space: normal; overflow-wrap: anywhere; }}
tr.total td {{ font-weight: 600; }}
.missing {{ border: 1px dashed var(--muted); border-radius: 8px; padding: 8px 18px 12px; margin: 14px 0; }}
.example {{ border: 1px solid var(--line); border-radius: 8px; padding: 0 18px 12px; margin: 18px 0; }}
.example h3 {{ margin-top: 14px; }}
.sides {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(235px, 1fr)); gap: 16px; margin-top: 12px; }}
.side {{ border-top: 3px solid var(--tone); padding-top: 8px; min-width: 0; }}
.side h4 {{ margin: 0 0 4px; font-size: 14px; color: var(--tone); }}
.label {{ font-size: 12px; color: var(--muted); margin-top: 8px; }}
.text {{ white-space: pre-wrap; overflow-wrap: anywhere; max-height: 340px; overflow-y: auto; background: var(--soft);
  border-radius: 6px; padding: 8px 12px; margin: 4px 0; font: {MONOSPACE}; }}
.badge {{ font-size: 12px; font-weight: 400; border: 1px solid; border-radius: 99px; padding: 0 8px;
  margin-left: 8px; }}
.correct {{ color: var(--good); }}
.wrong, .error {{ color: var(--bad); }}
.truncated, .no_answer, .undecided {{ color: var(--unsure); }}
details {{ margin: 10px 0; }}
summary {{ cursor: pointer; color: var(--student); font-size: 14px; }}
footer {{ color: var(--muted); font-size: 14px; border-top: 1px solid var(--line); margin-top: 56px;
  padding: 16px 0 48px; }}
@media print {{ .text {{ max-height: none; }} }}
"""
)
