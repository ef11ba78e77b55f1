"""Write nbs/api.ipynb, the reference: every public name of every module with its parameters, shapes and a link to its source.
It reads the modules' text and imports nothing. `--check` only compares."""
import ast, json, re, sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

def settings():
    cp = ConfigParser(delimiters=['=']); cp.read(ROOT/'settings.ini', encoding='utf-8')
    return cp['DEFAULT']

def lessons():
    "[(module, notebook, promise)], in the order of the course."
    out = []
    for f in sorted((ROOT/'nbs').glob('[0-9]*.ipynb')):
        text = f.read_text(encoding='utf-8')
        m = re.search(r'#\| default_exp (\w+)', text)
        if m: out.append((m[1], f, re.search(r'^> (.+)$', ''.join(json.loads(text)['cells'][0]['source']), re.M)[1]))
    return out

def header(node, lines):
    "The signature as it is written, comments of the parameters included."
    start,body = min([node.lineno, *(d.lineno for d in node.decorator_list)]),node.body[0]
    text = lines[start-1:body.lineno-1] if body.lineno>node.lineno else lines[start-1:node.lineno-1]
    before = lines[body.lineno-1][:body.col_offset].rstrip()                 # `): return x` and `def f(x): return x`
    if before.strip(): text = [*text, before]
    while text and not text[-1].strip(): text.pop()
    pad = len(text[0])-len(text[0].lstrip())
    return '\n'.join(t[pad:] for t in text)

def fields(node, lines):
    "The annotated fields of a dataclass, with their comments."
    own = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    return '\n'.join(lines[n.lineno-1].rstrip() for n in own)

def doc(node): return (ast.get_docstring(node) or '').strip()

def member(node, lines, url, level, prefix=''):
    name = prefix+node.name
    out = [f'{"#"*level} `{name}`', '', f'[source]({url}#L{node.lineno})', '', '```python', header(node, lines)]
    if isinstance(node, ast.ClassDef):
        if f := fields(node, lines): out.append(f)
        init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name=='__init__'), None)
        if init: out += ['    '+l for l in header(init, lines).splitlines()]
    out += ['```', '']
    if d := doc(node): out += [re.sub(r'\n *', '\n', d), '']
    if isinstance(node, ast.ClassDef):
        for n in node.body:
            if isinstance(n, ast.FunctionDef) and (not n.name.startswith('_') or n.name=='__call__'): out += member(n, lines, url, level+1, f'{name}.')
    return out

def public(tree):
    for n in tree.body:
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith('_'): yield n

def constants(tree, lines, url):
    for n in tree.body:
        if isinstance(n, ast.Assign) and len(n.targets)==1 and isinstance(n.targets[0], ast.Name) and n.targets[0].id.isupper() and not n.targets[0].id.startswith('_'):
            yield f'[`{n.targets[0].id}`]({url}#L{n.lineno})'

def notebook():
    cfg = settings()
    base = f"https://github.com/{cfg['user']}/{cfg['repo']}/blob/main/text_embedding"
    cells = ['# Reference\n\n> Every public name of the package: parameters, shapes, source.\n\nShapes use the letters of [lesson 00](00_lesson.ipynb#what-do-the-letters-in-the-shape-comments-mean). '
             'The lesson that a heading names builds the module, checks it against a judge and shows it at work. What most programs need is imported from `text_embedding` itself.']
    for module,nb,promise in lessons():
        text = (ROOT/f'text_embedding/{module}.py').read_text(encoding='utf-8')
        lines,tree,url = text.splitlines(),ast.parse(text),f'{base}/{module}.py'
        out = [f'## {module}', '', f'[Lesson]({nb.name}) · [source]({url}) · {promise}', '']
        if c := list(constants(tree, lines, url)): out += ['Constants: '+', '.join(c)+'.', '']
        for n in public(tree): out += member(n, lines, url, 3)
        cells.append('\n'.join(out).strip())
    as_cell = lambda i,s: dict(cell_type='markdown', id=f'api{i:05d}', metadata={}, source=s.splitlines(True))
    nb = dict(cells=[as_cell(i, s) for i,s in enumerate(cells)], metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')), nbformat=4, nbformat_minor=5)
    return json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True)+'\n'

if __name__=='__main__':
    dest,new = ROOT/'nbs/api.ipynb',notebook()
    if '--check' in sys.argv: sys.exit(None if dest.exists() and dest.read_text(encoding='utf-8')==new else 'nbs/api.ipynb is out of step with the package; run: make export')
    dest.write_text(new, encoding='utf-8')
