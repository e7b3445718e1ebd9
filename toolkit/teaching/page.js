// What a rendered tutorial does once it is loaded: formulas, folded solutions, a word on sliders.
renderMathInElement(document.body, {
  delimiters: [
    { left: "$$", right: "$$", display: true },
    { left: "$", right: "$", display: false },
  ],
  output: "mathml", // drawn by the browser: no fonts to fetch
  macros: { "\\max": "\\mathrm{max}", "\\min": "\\mathrm{min}" }, // else not lowered as an index
  throwOnError: false,
})

for (const cell of document.querySelectorAll(".celltag_solution")) {
  const fold = document.createElement("details")
  fold.className = "solution"
  fold.innerHTML = "<summary>Solution</summary>"
  cell.replaceWith(fold)
  fold.append(cell)
}

const heading = document.querySelector(".jp-Notebook h1")
if (heading) {
  heading.insertAdjacentHTML(
    "afterend",
    "<p class='note'>A printed page of the notebook: sliders of plots move only in Jupyter. " +
      "<a href='index.html'>All notebooks</a></p>",
  )
}
