# cmake -DINPUT=chat_page.html -DOUTPUT=chat_page.c -P embed.cmake: a file as an array in C.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"app/serve/chat_page.h\"\n\n"
  "const unsigned char eq_chat_page[] = {${bytes}};\n"
  "const size_t eq_chat_page_size = sizeof eq_chat_page;\n")
