import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isValidElement, type ComponentChildren, type VNode } from 'preact';
import { languageOf } from '../src/markdown/code';
import { safeHref } from '../src/markdown/links';
import { Document } from '../src/markdown/parse';
import { renderBlock } from '../src/markdown/render';
import { sentencesEnd, spoken } from '../src/speech';

/** The elements as text: <tag attribute="...">...</tag>. Components stand as {Name ...}. */
function show(node: ComponentChildren): string {
  if (node === null || node === undefined || typeof node === 'boolean') return '';
  if (Array.isArray(node)) return node.map(show).join('');
  if (!isValidElement(node)) return String(node);
  const { type, props } = node as VNode<Record<string, unknown>>;
  const { children, ...rest } = props;
  const attributes = Object.entries(rest)
    .filter(([, v]) => v !== undefined && v !== '')
    .map(([k, v]) => ` ${k}=${JSON.stringify(v)}`)
    .join('');
  if (typeof type === 'function')
    return type.name === '' || type.name === 'Fragment' || children !== undefined
      ? show(children as ComponentChildren)
      : `{${type.name}${attributes}}`;
  return `<${type}${attributes}>${show(children as ComponentChildren)}</${type}>`;
}

const whole = (text: string) =>
  new Document()
    .update(text, true)
    .map((b) => show(renderBlock(b, false)))
    .join('');
const inner = (text: string) =>
  whole(text).replaceAll('<div class="block">', '').replaceAll('</div>', '').replaceAll(' dir="auto"', '');

test('what Markdown means', () => {
  assert.equal(inner('# A **b**'), '<h3 class="heading-1">A <strong>b</strong></h3>');
  assert.equal(inner('a\nb'), '<p>a<br></br>b</p>');
  assert.equal(inner('- a\n- b'), '<ul><li>a</li><li>b</li></ul>');
  assert.equal(inner('3. a'), '<ol start=3><li>a</li></ol>');
  assert.match(
    inner('- [x] done\n- [ ] open'),
    /<span class="task done" role="img" aria-label="\[x\]"><\/span>done.*<span class="task" role="img" aria-label="\[ \]"><\/span>open/,
  );
  assert.match(
    inner('|a|b|\n|-|-:|\n|1|2|'),
    /<th class="align-right" scope="col">b<\/th>.*<td class="align-right">2<\/td>/,
  );
  assert.equal(inner('```c++ {1}\nint x;\n```'), '{CodeBlock code="int x;\\n" info="c++ {1}" streaming=false}');
  assert.equal(inner('~~a~~ `b`'), '<p><s>a</s> <code dir="ltr">b</code></p>');
});

test('emphasis between Chinese characters', () => {
  assert.equal(inner('这是**“重点”**内容'), '<p>这是<strong>“重点”</strong>内容</p>');
});

test('formulas, and dollars that are none', () => {
  const formula = (tex: string, display: boolean) => `{Formula tex=${JSON.stringify(tex)} display=${display}}`;
  assert.equal(inner('$x_1$ and \\(y\\)'), `<p>${formula('x_1', false)} and ${formula('y', false)}</p>`);
  assert.equal(inner('$$\na\n$$'), formula('\na\n', true));
  assert.equal(inner('\\[\na *b* c\n\\]'), formula('\na *b* c\n', true));
  assert.equal(inner('so $$a$$ it is'), `<p>so ${formula('a', true)} it is</p>`);
  assert.equal(inner('text\n\\[ a \\]\ntext'), `<p>text</p>${formula(' a ', true)}<p>text</p>`);
  assert.equal(inner('It costs $5, or $6 for two.'), '<p>It costs $5, or $6 for two.</p>');
  assert.equal(inner('$ a $ and 3$4$5'), '<p>$ a $ and 3$4$5</p>');
  assert.equal(inner('`$a$`'), '<p><code dir="ltr">$a$</code></p>');
  assert.equal(inner('\\\\(a\\\\)'), '<p>\\(a\\)</p>');
  assert.equal(inner('$$ never closed'), '<p>$$ never closed</p>');
});

const hostile = [
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(1)>',
  '<iframe src="javascript:alert(1)"></iframe>',
  '<svg/onload=alert(1)>',
  '<a href="javascript:alert(1)">x</a>',
  '[x](javascript:alert(1))',
  '[x](JaVaScRiPt:alert(1))',
  '[x](&#106;avascript:alert(1))',
  '[x](java\tscript:alert(1))',
  '[x](<java\nscript:alert(1)>)',
  '[x](\u0001javascript:alert(1))',
  '[x](data:text/html,<script>alert(1)</script>)',
  '[x](vbscript:msgbox(1))',
  '[x](file:///etc/passwd)',
  '[x](blob:https://a.example/1)',
  '[x](//evil.example/)',
  '[x](/v1/models)',
  '[x](https://bank.example@evil.example/)',
  '<javascript:alert(1)>',
  '![x](javascript:alert(1))',
  '![x](data:image/svg+xml,<svg onload=alert(1)>)',
  '[x]: javascript:alert(1)\n\n[x]',
  '[a](https://x.example "onmouseover=alert(1)")',
  '```"><script>alert(1)</script>\nx\n```',
  '|<b onclick=alert(1)>|\n|-|\n|<script>|',
  '<!--<script>alert(1)</script>-->',
  '&lt;script&gt;',
];

test('hostile output stays text', () => {
  const allowed = /^(div|p|a|span|code|ul|ol|li|h[3-6]|blockquote|table|thead|tbody|tr|th|td|strong|em|s|br|hr|pre)$/;
  const walk = (node: ComponentChildren): void => {
    if (Array.isArray(node)) return node.forEach(walk);
    if (!isValidElement(node)) return;
    const { type, props } = node as VNode<Record<string, unknown>>;
    if (typeof type === 'string') {
      assert.match(type, allowed);
      for (const [name, value] of Object.entries(props)) {
        assert.doesNotMatch(name, /^on|dangerously|src/i);
        if (name === 'href') assert.match(String(value), /^(https?:\/\/|mailto:)/);
      }
    }
    walk(props.children as ComponentChildren);
  };
  for (const text of hostile) for (const b of new Document().update(text, true)) walk(renderBlock(b, false));
});

test('which addresses are links', () => {
  for (const fine of ['https://a.example/b?c=d#e', 'http://127.0.0.1:8000/', 'mailto:a@b.example'])
    assert.notEqual(safeHref(fine), null, fine);
  const bad = [
    'javascript:alert(1)',
    ' https://a.example',
    'https:a.example',
    'https://a.example/\u202egpj.exe',
    'https://a@b.example',
    'data:,x',
    'ftp://a.example',
    '//a',
    '/a',
    '#a',
    '',
    'https://',
  ];
  for (const address of bad) assert.equal(safeHref(address), null, address);
});

test('links open apart and tell nothing', () => {
  assert.equal(
    inner('[a](https://x.example/)'),
    '<p><a href="https://x.example/" title="https://x.example/" target="_blank" rel="noopener noreferrer nofollow" referrerpolicy="no-referrer">a</a></p>',
  );
  assert.match(
    inner('see https://x.example/a.'),
    /<a href="https:\/\/x.example\/a"[^>]*>https:\/\/x.example\/a<\/a>\./,
  );
  assert.doesNotMatch(inner('example.com and ftp://x.example'), /<a/);
  assert.doesNotMatch(inner('![tracking](https://x.example/pixel.gif)'), /<img/);
});

const document = [
  '# Title\n\nA paragraph\nof two lines.\n\nSetext\n======\n',
  '- a\n  - b\n\n    still b\n- c\n\nafter\n\n1. one\n2. two\n\n   more\n',
  '```python\nprint("# not a title")\n\n\nx = 1\n```\n\n    indented code\n\n> quote\nlazy\n\n---\n',
  '| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\ntext $$x$$\n\n$$\n\\frac{a}{b}\n$$\n\n\\[\ny\n\\]\n\nend\r\nof lines\n',
].join('\n');

test('a text that grows gives what the whole text gives', () => {
  const expected = whole(document);
  for (const size of [1, 2, 3, 7, 50]) {
    const growing = new Document();
    for (let n = 0; n < document.length; n += size) growing.update(document.slice(0, n), false);
    assert.equal(
      growing
        .update(document, true)
        .map((b) => show(renderBlock(b, false)))
        .join(''),
      expected,
      `in steps of ${size}`,
    );
  }
});

test('link definitions that come last count for the whole text', () => {
  const text = 'See [it][1].\n\nMore.\n\n[1]: https://x.example/\n';
  const growing = new Document();
  for (let n = 0; n < text.length; n++) growing.update(text.slice(0, n), false);
  assert.match(
    growing
      .update(text, true)
      .map((b) => show(renderBlock(b, false)))
      .join(''),
    /href="https:\/\/x.example\/"/,
  );
});

test('while a text grows only its last block is read again', () => {
  const growing = new Document();
  const first = growing.update('one\n\ntwo\n\nthree', false);
  const second = growing.update('one\n\ntwo\n\nthree and more', false);
  assert.equal(first.length, 3);
  assert.equal(second[0], first[0]);
  assert.equal(second[1], first[1]);
  assert.notEqual(second[2], first[2]);
  assert.equal(renderBlock(second[0]!, false), renderBlock(first[0]!, false));
});

test('another text begins anew', () => {
  const growing = new Document();
  growing.update('one\n\ntwo\n\nthree', false);
  assert.equal(
    growing
      .update('else', false)
      .map((b) => show(renderBlock(b, false)))
      .join(''),
    whole('else'),
  );
});

test('a formula still open is kept from Markdown', () => {
  assert.match(
    new Document()
      .update('$$\na *b', false)
      .map((b) => show(renderBlock(b, true)))
      .join(''),
    /pending-math/,
  );
});

test('deep nesting neither overflows nor takes long', () => {
  const started = performance.now();
  for (const text of [
    '>'.repeat(20_000),
    '['.repeat(20_000),
    '*a '.repeat(20_000),
    '$'.repeat(20_001),
    '- '.repeat(5000),
    '`'.repeat(9999),
    '|'.repeat(5000) + '\n' + '|-'.repeat(5000),
    '\\['.repeat(5000),
    '$a'.repeat(10_000),
  ])
    whole(text);
  assert.ok(performance.now() - started < 20_000);
});

test('the language of a fence', () => {
  assert.equal(languageOf('C++ {1,2}'), 'c++');
  assert.equal(languageOf('python title="x"'), 'python');
  assert.equal(languageOf('"><script>'), '');
});

test('what is read out', () => {
  assert.equal(sentencesEnd('One. Two is', 0), 4);
  assert.equal(sentencesEnd('一。二', 0), 2);
  assert.equal(sentencesEnd('1.5 is not an end', 0), 0);
  assert.equal(spoken('## A **b** [c](https://d)'), 'A b c');
});
