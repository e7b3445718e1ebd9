// Formulas in MathML: drawn by the browser, with no fonts to fetch.
renderMathInElement(document.body, {
  delimiters: [
    { left: "\\[", right: "\\]", display: true },
    { left: "\\(", right: "\\)", display: false },
  ],
  output: "mathml",
  throwOnError: false,
})
