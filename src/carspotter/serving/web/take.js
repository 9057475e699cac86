// How every page takes photos: dropped, pasted or chosen, as files. It reads none of them.

const IMAGE_NAME = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|hei[cf])$/i;

const isImage = (file) => file.type.startsWith("image/") || IMAGE_NAME.test(file.name);

/** Call `onFiles` with what is dropped anywhere, pasted or chosen; folders are walked, names sorted within them. */
export function receive({ zone, inputs, onFiles }) {
  for (const input of inputs) {
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = ""; // the same file may be chosen again
      // A chosen folder holds all sorts; a file that was chosen by itself goes to the service whatever it is called.
      if (files.length) onFiles(input.webkitdirectory ? files.filter(isImage).sort(byPath) : files);
    });
  }
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) (event.preventDefault(), onFiles(files));
  });
  let depth = 0; // dragenter and dragleave come for every child
  const mark = (change) => zone.classList.toggle("over", (depth = Math.max(0, depth + change)) > 0);
  const isFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  window.addEventListener("dragenter", (event) => isFiles(event) && mark(1));
  window.addEventListener("dragleave", (event) => isFiles(event) && mark(-1));
  window.addEventListener("dragover", (event) => isFiles(event) && event.preventDefault());
  window.addEventListener("drop", async (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    mark(-depth);
    const files = await dropped(event.dataTransfer);
    if (files.length) onFiles(files);
  });
}

const byPath = (a, b) => (a.webkitRelativePath || a.name).localeCompare(b.webkitRelativePath || b.name, "en", { numeric: true });

async function dropped(transfer) {
  const given = [...transfer.files];
  // The entries die with the event, so all are taken before the first await.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return given;
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    return file && isImage(file) ? [file] : [];
  }
  const reader = entry.createReader();
  const children = [];
  for (;;) {
    const part = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([]))); // 100 at a time
    if (!part.length) break;
    children.push(...part);
  }
  children.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  return (await Promise.all(children.map(walk))).flat();
}
