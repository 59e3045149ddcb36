// Browsers start no web workers for pages opened from a file. There the search runs in a hidden
// frame instead. The name of this file keeps the plugin `offline` from asking unpkg.com for another.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.scope = new Promise((resolve) => {
        const frame = document.createElement("iframe")
        frame.hidden = true
        frame.onload = () => {
          const scope = frame.contentWindow
          scope.postMessage = (data) =>
            this.dispatchEvent(new MessageEvent("message", { data }))
          const script = scope.document.createElement("script")
          script.src = url
          script.onload = () => resolve(scope)
          scope.document.body.append(script)
        }
        document.body.append(frame)
      })
    }

    postMessage(data) {
      this.scope.then((scope) => scope.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
