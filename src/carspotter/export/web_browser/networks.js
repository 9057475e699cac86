// The site's own files in, networks that run out: fetched once with progress, kept in the browser's cache, opened by
// ONNX Runtime's WebAssembly. It knows nothing of photos.

const CACHE = "carspotter";

/** Fetch the runtime and both networks and open them; `onProgress(loaded, total)` counts bytes. */
export async function openNetworks(base, onProgress) {
  const site = await (await get(new URL("site.json", base), { cache: "no-cache" })).json();
  const wanted = Object.values(site.files);
  const total = wanted.reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  const add = (bytes) => onProgress((loaded += bytes), total);
  const bytesOf = async ([name, file]) => [name, await fetched(base, file, add)];
  const content = Object.fromEntries(await Promise.all(Object.entries(site.files).map(bytesOf)));
  await forget(base, wanted);
  const ort = await openRuntime(base, await unpacked(content.runtime));
  const finder = { bundle: site.finder, run: await opened(ort, content.finder, site.finder) };
  const identifier = { bundle: site.identifier, run: await opened(ort, content.identifier, site.identifier) };
  identifier.classes = site.taxonomy.classes;
  identifier.outline = site.outline;
  return { finder, identifier, threads: ort.env.wasm.numThreads, bytes: total };
}

async function get(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Error("The networks could not be fetched: this device is not connected, or the site is gone. Load the page again.");
  }
  if (!response.ok) throw new Error(`The site lacks ${url.pathname} (status ${response.status}); build it again with carspotter browser.`);
  return response;
}

// ---- files, fetched once

/** The hash belongs to the address, so that a file of an older site is never taken for this one's. */
const address = (base, { path, sha256 }) => new URL(`${path}?${sha256.slice(0, 16)}`, base);

async function fetched(base, file, add) {
  const url = address(base, file);
  const store = await openCache();
  const kept = await store?.match(url);
  const data = await body(kept ?? (await get(url)), add);
  if (data.length !== file.bytes) {
    await store?.delete(url);
    throw new Error(`${file.path} arrived with ${data.length} of ${file.bytes} bytes; load the page again.`);
  }
  // A full disk must not keep anyone from an answer: the next visit fetches again.
  if (!kept) await store?.put(url, new Response(data)).catch(() => undefined);
  return data;
}

/** The browser's store; none in a private window of some, and none without HTTPS. */
const openCache = async () => (globalThis.caches ? caches.open(CACHE).catch(() => null) : null);

async function forget(base, files) {
  const store = await openCache();
  const known = new Set(files.map((file) => address(base, file).href));
  for (const { url } of (await store?.keys()) ?? []) {
    if (url.startsWith(new URL(".", base).href) && !known.has(url)) await store.delete(url);
  }
}

async function body(response, add) {
  const parts = [];
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    add(value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** The runtime travels compressed, a quarter of its size, since few static servers compress WebAssembly. */
async function unpacked(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes.buffer; // a server told the browser to unpack it
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// ---- running

async function openRuntime(base, wasmBinary) {
  const ort = await import("./runtime/ort.js");
  ort.env.logLevel = "error";
  ort.env.wasm.wasmBinary = wasmBinary;
  ort.env.wasm.wasmPaths = { mjs: new URL("runtime/ort-wasm.js", base).href };
  // Threads share memory, which browsers allow only to pages that are isolated from others by two headers.
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  return ort;
}

async function opened(ort, content, bundle) {
  const session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  const { width, height } = bundle.preprocessing;
  const run = async ({ data }) => {
    const outputs = await session.run({ image: new ort.Tensor("uint8", data, [1, height, width, 3]) });
    return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));
  };
  await run({ data: new Uint8Array(width * height * 3) }); // the first run lets the browser compile: no photo waits for it
  return run;
}
