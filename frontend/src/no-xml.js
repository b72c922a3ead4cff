// vtk.js reads XML files with xmlbuilder2, which extends a module of Node that browsers do not have; no such file is read here.
export function create() {
  throw new Error("XML files are not read here.");
}
