// Package pages draws what partners see: html/template files, one stylesheet, one script, and the vendored libraries
// that they use. It knows nothing of where the values come from: a page is a view, a struct of what it shows.
//
// Everything works by plain links and forms; htmx keeps forms from reloading the page, app.js adds live updates, copying
// and the chart. No page asks another host for anything and none holds inline script or style, so that the strictest
// content security policy fits ([Policy]).
package pages
