// A Vite plugin that puts the built script and style sheet into index.html, so that the chat page is one file which
// needs no second request, and adds a content security policy that lets only this script run. It also appends the
// licences of the packages inside, and writes a gzip of the page beside it.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Plugin } from 'vite';

const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

// Inline styles of single elements are set through the DOM (allowed); only MathML needs the attribute form.
const policy = (script: string, style: string) =>
  [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    'img-src data:',
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ');

function licences(packages: string[]): string {
  const texts = packages.map((name) => {
    const folder = join('node_modules', name);
    const file = readdirSync(folder).find((f) => /^licen[cs]e/i.test(f));
    const about = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const text = file ? readFileSync(join(folder, file), 'utf8') : about.license;
    return `${name} ${about.version}\n${text.trim()}`;
  });
  return `\nThe chat page contains these packages:\n\n${texts.join('\n\n')}\n`.replaceAll('--', '- -');
}

export function inline(): Plugin {
  return {
    name: 'inline',
    enforce: 'post',
    generateBundle(_, bundle) {
      const files = Object.values(bundle);
      const html = files.find((f) => f.fileName === 'index.html');
      const chunks = files.filter((f) => f.type === 'chunk');
      const styles = files.filter((f) => f.type === 'asset' && f.fileName.endsWith('.css'));
      const [chunk] = chunks;
      if (html?.type !== 'asset' || !chunk || chunks.length !== 1)
        throw new Error('expected index.html and one script');
      const packages = new Set<string>();
      for (const id of Object.keys(chunk.modules)) {
        const name = /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(id)?.[1];
        if (name) packages.add(name);
      }
      // The browser hashes what stands between the tags: `</script` must not stand in the code, and no CR either.
      const script = chunk.code
        .replace(/<\/script/gi, '<\\/script')
        .replace(/<!--/g, '<\\!--')
        .replaceAll('\r', '\\r')
        .trim();
      const style = styles
        .map((s) => (s.type === 'asset' ? String(s.source) : ''))
        .join('\n')
        .trim();
      const page = String(html.source)
        .replace(/\s*<script type="module"[^>]*><\/script>/, '')
        .replace(/\s*<link rel="stylesheet"[^>]*>/g, '')
        .replace(
          '<meta charset="utf-8" />',
          (m) => `${m}\n    <meta http-equiv="content-security-policy" content="${policy(script, style)}" />`,
        )
        .replace('</head>', () => `<style>${style}</style>\n  </head>`)
        .replace('</body>', () => `<script type="module">${script}</script>\n  </body>`)
        .replace('</html>', () => `</html>\n<!--${licences([...packages].sort())}-->`);
      for (const f of files) delete bundle[f.fileName];
      this.emitFile({ type: 'asset', fileName: 'index.html', source: page });
      this.emitFile({ type: 'asset', fileName: 'index.html.gz', source: gzipSync(page, { level: 9 }) });
    },
  };
}
