# Writes the source that defines page_files(): the files of the page as string literals.
#
#   cmake -DFOLDER=... -DOUTPUT=... -P EmbedPage.cmake
file(GLOB paths LIST_DIRECTORIES false ${FOLDER}/*.css ${FOLDER}/*.html ${FOLDER}/*.js)
list(SORT paths)
set(source "#include \"serve/page_files.h\"\n\nnamespace dalle {\nnamespace {\n\nconstexpr PageFile kPageFiles[] = {\n")
foreach(path ${paths})
  get_filename_component(name ${path} NAME)
  file(READ ${path} content)
  string(APPEND source "    {\"${name}\", R\"embedded(${content})embedded\"},\n")
endforeach()
string(APPEND source "};\n\n}  // namespace\n\nstd::span<const PageFile> page_files() { return kPageFiles; }\n\n}  // namespace dalle\n")
file(WRITE ${OUTPUT} "${source}")
