// A client of ingled written from docs/protocol.md alone: no npm packages, no code of this repository.
// It speaks ZMTP 3.0 (mechanism NULL, socket type DEALER) over net.connect({path}) and the little MessagePack it needs.
// Exit codes: 0 done, 2 usage, 3 no daemon, 4 `failed`, 5 broken connection or protocol, 130 Ctrl-C.
import net from 'node:net';
import { once } from 'node:events';
import { parseArgs } from 'node:util';

const USAGE = 'usage: node client.mjs SOCKET [--model M] [--max-tokens N] PROMPT...';
const CREDIT = 4, REQUEST = 1, CANCEL = 2; // most chunks on the way; our two refs
const die = (code, line) => { console.error(line); process.exit(code); };

// MessagePack: we send maps, lists, texts and whole numbers from 0, in 32-bit forms; we read all but bin and ext.
const NUMBERS = 'FloatBE DoubleBE UInt8 UInt16BE UInt32BE BigUInt64BE Int8 Int16BE Int32BE BigInt64BE'.split(' ');
const head = (code, n) => Buffer.from([code, n >>> 24, n >>> 16, n >>> 8, n]);
function pack(v) {
  if (typeof v === 'number') return head(0xce, v);
  if (typeof v === 'string') return Buffer.concat([head(0xdb, Buffer.byteLength(v)), Buffer.from(v)]);
  if (Array.isArray(v)) return Buffer.concat([head(0xdd, v.length), ...v.map(pack)]);
  return Buffer.concat([head(0xdf, Object.keys(v).length), ...Object.entries(v).flat().map(pack)]);
}
function unpack(buf) {
  let at = 0;
  const number = (code, size = code < 0xcc ? 4 << (code & 1) : 1 << (code & 3)) => // NUMBERS begin at 0xca
    Number(buf['read' + NUMBERS[code - 0xca]]((at += size) - size));
  const text = (n) => buf.toString('utf8', at, (at += n));
  const list = (n) => { const out = []; while (n--) out.push(value()); return out; };
  const map = (n) => { const out = {}; while (n--) out[value()] = value(); return out; };
  function value() {
    const c = number(0xcc);
    if (c < 0x80 || c >= 0xe0) return c < 0x80 ? c : c - 256;
    if (c < 0xa0) return (c < 0x90 ? map : list)(c & 15);
    if (c < 0xc0) return text(c & 31);
    if (c <= 0xc3) return [null, undefined, false, true][c - 0xc0];
    if (c >= 0xca && c <= 0xd3) return number(c);
    if (c >= 0xd9 && c <= 0xdb) return text(number(0xcc + c - 0xd9));
    if (c >= 0xdc) return (c < 0xde ? list : map)(number(0xcd + (c & 1)));
    throw new Error(`MessagePack type 0x${c.toString(16)} is not expected`);
  }
  return value();
}

// ZMTP 3.0: a greeting of 64 bytes, a READY command each way, then frames of flags, size and body.
const LONG = 2, COMMAND = 4;
const GREETING = Buffer.from('\xff' + '\0'.repeat(8) + '\x7f\x03\0' + 'NULL'.padEnd(52, '\0'), 'latin1');
const READY = Buffer.from('\x05READY\x0bSocket-Type\0\0\0\x06DEALER', 'latin1');
function frame(flags, body) {
  if (body.length < 256) return Buffer.concat([Buffer.from([flags, body.length]), body]);
  return Buffer.concat([Buffer.from([flags | LONG, 0, 0, 0]), head(0, body.length), body]);
}
async function read(n) { // exactly n bytes, however they arrive
  while (pool.length < n) pool = Buffer.concat([pool, (await reads.next()).value ?? die(5, 'the connection is gone')]);
  const bytes = pool.subarray(0, n);
  pool = pool.subarray(n);
  return bytes;
}
async function receive() {
  const [flags] = await read(1);
  const body = await read(flags & LONG ? Number((await read(8)).readBigUInt64BE()) : (await read(1))[0]);
  return flags & COMMAND ? { t: 'ZMTP ' + body.toString('latin1', 1, 1 + body[0]) } : unpack(body);
}

process.on('uncaughtException', (e) => die(e.code?.startsWith('ERR_PARSE_ARGS') ? 2 : 5, `client.mjs: ${e.message}`));
const options = { model: { type: 'string' }, 'max-tokens': { type: 'string' } };
const { values, positionals: [path, ...words] } = parseArgs({ allowPositionals: true, options });
const { model, 'max-tokens': max } = values;
if (!words.length || !/^[1-9]\d{0,8}$/.test(max ?? '1')) die(2, USAGE);
const body = { messages: [{ role: 'user', content: words.join(' ') }], ...(max && { max_tokens: Number(max) }) };
const socket = net.connect({ path });
await once(socket, 'connect').catch((e) => die(3, `no daemon that you may use at ${path} (${e.code})`));
const reads = socket[Symbol.asyncIterator]();
const say = (message) => socket.write(frame(0, pack(message)));
const end = (code, line) => process.stdout.write('', () => // that is when all text is out
  socket.end(frame(0, pack({ t: 'bye' })), () => die(code, line)));
let pool = Buffer.alloc(0), id, offset = 0, chunks = 0, interrupted = false;
process.once('SIGINT', () => { // a second one kills us: the daemon cancels when our socket closes
  interrupted = true;
  if (id) say({ t: 'cancel', ref: CANCEL, id });
});
const hear = {
  'ZMTP READY': () => say({ t: 'hello', protocol: [1, 1], client: { name: 'client.mjs' } }),
  welcome: () => say({ t: 'request', ref: REQUEST, op: 'chat', credit: CREDIT, body, ...(model && { model }) }),
  accepted: (m) => { id = m.id; if (interrupted) say({ t: 'cancel', ref: CANCEL, id }); },
  progress: (m) => console.error(m.phase, m.percent === undefined ? '' : `${m.percent}%`, m.what ?? ''),
  chunk: (m) => {
    if (m.id !== id || m.o !== offset) die(5, `a gap: a chunk at ${m.o}, expected at ${offset}`);
    const ack = (offset += Buffer.byteLength(m.x ?? m.r));
    (m.r === undefined ? process.stdout : process.stderr).write(m.x ?? m.r, () => { // give back at half
      if (++chunks % (CREDIT / 2) === 0) say({ t: 'credit', id, n: CREDIT / 2, ack });
    });
  },
  done: (m) => end(interrupted ? 130 : 0, JSON.stringify({ finish: m.finish, usage: m.usage })),
  failed: (m) => end(interrupted ? 130 : 4, [`${m.code}: ${m.message}`, m.hint].filter(Boolean).join('\n')),
};
socket.write(GREETING);
const peer = (await read(64)).toString('latin1');
if (!/^\xff.{8}\x7f[^\0-\x02].NULL\0/s.test(peer)) die(5, `no ZMTP 3 with mechanism NULL at ${path}`);
socket.write(frame(COMMAND, READY));
for (;;) { const m = await receive(); hear[m.t]?.(m); }
