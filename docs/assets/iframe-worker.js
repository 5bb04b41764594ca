// Search without a server: browsers refuse workers for pages that are opened from disk.
// There this class takes the place of Worker and runs the script in a hidden frame.
(() => {
  if (location.protocol !== "file:") return

  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.onmessage = null
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      // What a worker knows and a window lacks or does otherwise.
      this.frame.srcdoc = `<script>
        self.postMessage = data => parent.postMessage(data, "*")
        self.importScripts = (...urls) => urls.reduce((before, url) => before.then(() =>
          new Promise((done, failed) => document.head.append(Object.assign(
            document.createElement("script"), { src: url, onload: done, onerror: failed }
          )))), Promise.resolve())
      <\/script><script src="${url}"><\/script>`
      this.ready = new Promise(done => this.frame.addEventListener("load", done))
      window.addEventListener("message", event => {
        if (event.source !== this.frame.contentWindow) return
        const message = new MessageEvent("message", { data: event.data })
        this.dispatchEvent(message)
        if (this.onmessage) this.onmessage(message)
      })
      document.body.append(this.frame)
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(
        new MessageEvent("message", { data })
      ))
    }

    terminate() {
      this.frame.remove()
    }
  }
})()
